"""What an evaluation starts from: checked graphs and the representations of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.bipartite import Neighbors, check_ids, interactions, sorted_neighbors
from pyg_kd.functional.metrics import in_sorted
from pyg_kd.typing import ITEM, USER, XDict


class Ranker(Protocol):
    """A module whose representations of users and items give scores.

    Every recommender of the package is one.
    """

    def __call__(self, data: HeteroData, /) -> XDict:
        """Return the representations ``[U, d]`` and ``[I, d]``."""

    def score_block(self, x_user: Tensor, x_item: Tensor, /) -> Tensor:
        """Return the scores ``[b, t]`` of ``[b, d]`` users and ``[t, d]`` items."""

    def modules(self) -> Iterator[nn.Module]:
        """Return the module and all modules inside of it."""


class Task(NamedTuple):
    """Which items are hidden from each user, and which are to be found.

    Args:
        seen: The items of the message edges of both graphs.
        targets: The items of the labelled edges.
        users: The users with targets, ascending, int64.
        num_items: Size of the catalogue.
    """

    seen: Neighbors
    targets: Neighbors
    users: Tensor
    num_items: int

    @property
    def num_users(self) -> int:
        """Number of users, with and without targets."""
        return self.targets.ptr.numel() - 1


def evaluation_task(data: HeteroData, target_data: HeteroData) -> Task:
    r"""Read what is hidden and what is to be found from two graphs.

    Args:
        data: The graph a model is applied to.
        target_data: A graph of the same nodes with an ``edge_label_index``.
            Where it has an ``edge_label``, only positive labels count.

    Raises:
        ValueError: If the graphs differ in size, there are no targets, or
            targets are message edges of one of the graphs.
    """
    graph, other = interactions(data), interactions(target_data)
    if graph[1:] != other[1:]:
        raise ValueError(
            f"'target_data' must have the nodes of 'data', {graph[1:]} users and items "
            f"(got {other[1:]})"
        )
    num_users, num_items = graph[1:]
    message = torch.cat([graph.edge_index, other.edge_index.to(graph.edge_index.device)], dim=1)
    label = _targets(target_data).to(message.device)
    check_ids("edge_label_index[0] (users)", label[0], num_users)
    check_ids("edge_label_index[1] (items)", label[1], num_items)
    seen = sorted_neighbors(message[0], message[1], num_users, num_items)
    targets = sorted_neighbors(label[0], label[1], num_users, num_items)
    leaked = int(in_sorted(_keys(seen, num_items), _keys(targets, num_items)).sum())
    if leaked:
        raise ValueError(
            f"{leaked} targets of 'target_data' are message edges too: they are hidden from the "
            f"ranking and cannot be found"
        )
    return Task(seen, targets, targets.degree.nonzero().squeeze(1), num_items)


def _targets(target_data: HeteroData) -> Tensor:
    store = target_data[target_data.edge_types[0]]
    if "edge_label_index" not in store:
        raise ValueError("'target_data' has no 'edge_label_index'")
    label: Tensor = store.edge_label_index.as_subclass(Tensor)
    if "edge_label" in store:
        label = label[:, store.edge_label > 0]
    if label.size(1) == 0:
        raise ValueError("'target_data' has no targets: its 'edge_label_index' is empty")
    return label


def _keys(neighbors: Neighbors, num_cols: int) -> Tensor:
    row = torch.repeat_interleave(neighbors.degree, output_size=neighbors.col.numel())
    return row * num_cols + neighbors.col


def representations(model: Ranker, data: HeteroData, task: Task) -> tuple[Tensor, Tensor]:
    r"""Apply a model to a graph, and check what comes out.

    Raises:
        TypeError: If the model has no ``score_block``.
        ValueError: If representations are missing, of another size, or NaN.
    """
    if not callable(getattr(model, "score_block", None)):
        raise TypeError(f"'model' must have a method 'score_block' (got {type(model).__name__})")
    x_dict = model(data)
    for node_type, size in ((USER, task.num_users), (ITEM, task.num_items)):
        if node_type not in x_dict:
            raise ValueError(f"'model' returned no representations of {node_type!r}")
        x = x_dict[node_type]
        if x.size(0) != size:
            raise ValueError(
                f"'model' must return {size} representations of {node_type!r} (got {x.size(0)})"
            )
        if x.isnan().any():
            raise ValueError(f"'model' returned representations of {node_type!r} that are NaN")
    return x_dict[USER], x_dict[ITEM]


@contextmanager
def inference(model: Ranker) -> Iterator[None]:
    """No gradients and evaluation mode inside; every module's own mode comes back after."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
