"""Applying a model without training it, and checking what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER, XDict


class HasModules(Protocol):
    """A module, or what consists of modules."""

    def modules(self) -> Iterator[nn.Module]:
        """Return the module and all modules inside of it."""


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


@contextmanager
def inference(model: HasModules) -> Iterator[None]:
    """No gradients and evaluation mode inside; every module's own mode comes back after.

    Where several threads are inside, it comes back when the last of them leaves.

    Raises:
        TypeError: If ``model`` is not a module.
    """
    if isinstance(model, type) or not callable(getattr(model, "modules", None)):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"'model' must be a torch.nn.Module (got {got})")
    _enter(model)
    try:
        with torch.no_grad():
            yield
    finally:
        _leave(model)


#: Of models by id: how often they were entered, and the modes that come back. A model is alive as
#: long as it is in here.
_INSIDE: dict[int, tuple[int, list[tuple[nn.Module, bool]]]] = {}
_LOCK = Lock()


def _enter(model: HasModules) -> None:
    with _LOCK:
        own = [(module, module.training) for module in model.modules()]
        count, modes = _INSIDE.get(id(model), (0, own))
        for module, _ in own:
            module.training = False
        _INSIDE[id(model)] = count + 1, modes


def _leave(model: HasModules) -> None:
    with _LOCK:
        count, modes = _INSIDE.pop(id(model))
        if count > 1:
            _INSIDE[id(model)] = count - 1, modes
            return
        for module, mode in modes:
            module.training = mode


def represent(
    model: Callable[[HeteroData], XDict],
    data: HeteroData,
    *,
    allow_nan: bool = False,
    device: torch.device | None = None,
) -> XDict:
    r"""Apply a model to a graph.

    Args:
        model: A module, or what else returns representations.
        data: The graph.
        allow_nan: Whether representations may be NaN.
        device: The device of the graph, where representations must be there too.

    Returns:
        The representations ``[U, d]`` of users and ``[I, d]`` of items.

    Raises:
        TypeError: If the model does not return a dictionary of dense tensors.
        ValueError: If representations are missing, of another shape, on another device, or NaN
            where that is not allowed.
    """
    x_dict = model(data)
    if not isinstance(x_dict, Mapping):
        raise TypeError(
            "'model' must return a dictionary of representations, {'user': ..., 'item': ...} "
            f"(got {type(x_dict).__name__})"
        )
    for node_type in (USER, ITEM):
        if node_type not in x_dict:
            raise ValueError(
                f"'model' returned no representations of {node_type!r} (got {list(x_dict)})"
            )
        x, size = x_dict[node_type], data[node_type].num_nodes
        if not isinstance(x, Tensor):
            raise TypeError(
                f"representations of {node_type!r} must be a tensor (got {type(x).__name__})"
            )
        if x.layout != torch.strided:
            raise TypeError(f"representations of {node_type!r} must be dense (got {x.layout})")
        if x.dim() != 2 or x.size(0) != size:
            raise ValueError(
                f"'model' must return {size} representations of {node_type!r}, [{size}, d] "
                f"(got {list(x.shape)})"
            )
        if device is not None and x.device != device:
            raise ValueError(
                f"'model' must return representations on the device of 'data', {device} "
                f"(got {x.device} for {node_type!r})"
            )
        if not allow_nan and bool(x.isnan().any()):
            given = nan_features(data)
            cause = f", as {' and '.join(given)} of the graph are" if given else ""
            raise ValueError(
                f"'model' returned representations of {node_type!r} that are NaN{cause}"
            )
    return x_dict


def nan_features(data: HeteroData) -> list[str]:
    """The names of what a graph carries that is NaN somewhere."""
    return [
        f"data[{store._key!r}].{name}"
        for store in [*data.node_stores, *data.edge_stores]
        for name, value in store.items()
        if isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any())
    ]


def best_unseen(
    model: Ranker, data: HeteroData, k: int, users: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The best ``k`` unseen items of some users, or of all, int64 ``[n, k]``, and their scores."""
    edges = interactions(data)
    if users is None:
        users = torch.arange(edges.num_users, device=edges.edge_index.device)
    rows, place = users.unique(return_inverse=True)
    with inference(model):
        x_dict = represent(model, data, device=edges.edge_index.device)
        x_user, x_item = x_dict[USER], x_dict[ITEM]
        blocks = list(
            rank_unseen(
                lambda rows, cols: model.score_block(x_user[rows], x_item[cols]),
                *(edges.num_users, edges.num_items, k),
                seen=edges.by_user(),
                rows=rows,
            )
        )
    items = torch.cat([rows.new_empty(0, k), *(block.ids for block in blocks)])
    none = torch.empty(0, k, device=rows.device)
    return items[place], torch.cat([none, *(block.values for block in blocks)])[place]
