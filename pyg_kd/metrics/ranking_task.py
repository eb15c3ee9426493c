"""What a ranking is measured against: hidden items and targets of every user."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.edge_types import interaction_type
from pyg_kd.functional.ranking import ScoreBlock, rank_unseen
from pyg_kd.graph import (
    Interactions,
    Neighbors,
    as_edges,
    check_ids,
    interactions,
    sorted_neighbors,
)
from pyg_kd.metrics.ranking_metrics import hit_matrix, in_sorted


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

    def hits(
        self,
        score_block: ScoreBlock,
        k: int,
        *,
        row_block: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Which of the first ``k`` unseen items are targets, bool ``[len(users), k]``."""
        ranking = rank_unseen(
            score_block,
            self.num_users,
            self.num_items,
            k,
            seen=self.seen,
            rows=self.users,
            row_block=row_block,
            progress=progress,
        )
        return torch.cat([hit_matrix(r.rows, r.ids, self.targets, self.num_items) for r in ranking])


def ranking_task(data: HeteroData, target_data: HeteroData, name: str = "target_data") -> Task:
    r"""Read what is hidden and what is to be found from two graphs.

    Args:
        data: The graph a model is applied to.
        target_data: A graph of the same nodes with an ``edge_label_index``.
            Where it has an ``edge_label``, only positive labels count.
        name: How messages call ``target_data``.

    Raises:
        ValueError: If the graphs differ in size, there are no targets, targets
            are message edges of one of the graphs, or labels do not fit the
            labelled edges.
        TypeError: If a graph is not a ``HeteroData``.
    """
    graph, other = interactions(data), _interactions(target_data, name)
    if graph[1:] != other[1:]:
        raise ValueError(
            f"{name!r} must have the nodes of 'data', {graph[1:]} users and items (got {other[1:]})"
        )
    num_users, num_items = graph[1:]
    label = _targets(target_data, name)
    if label.is_meta and not graph.edge_index.is_meta:
        raise ValueError(
            f"{name!r} must hold values (got an 'edge_label_index' on the meta device)"
        )
    label = label.to(graph.edge_index.device)
    check_ids("edge_label_index[0] (users)", label[0], num_users)
    check_ids("edge_label_index[1] (items)", label[1], num_items)
    seen = _seen(graph, other)
    targets = sorted_neighbors(label[0], label[1], num_users, num_items)
    leaked = int(in_sorted(_keys(seen, num_items), _keys(targets, num_items)).sum())
    if leaked:
        raise ValueError(
            f"{leaked} targets of {name!r} are message edges too: they are hidden from the "
            f"ranking and cannot be found"
        )
    return Task(seen, targets, targets.degree.nonzero().squeeze(1), num_items)


def _interactions(graph: HeteroData, name: str) -> Interactions:
    """The edges of a graph that messages call ``name``."""
    try:
        return interactions(graph)
    except (TypeError, ValueError) as error:
        told = str(error)
        rest = told.removeprefix("'data' ")
        raise type(error)(f"{name!r} {rest}" if rest != told else f"{name!r}: {told}") from None


def _seen(graph: Interactions, other: Interactions) -> Neighbors:
    """The items of both graphs; a split's parts often have the same edges, sorted already."""
    first, second = graph.edge_index, other.edge_index.to(graph.edge_index.device)
    if first is second or torch.equal(first, second):
        return graph.by_user()
    both = torch.cat([first, second], dim=1)
    return sorted_neighbors(both[0], both[1], graph.num_users, graph.num_items)


def _targets(target_data: HeteroData, name: str) -> Tensor:
    store = target_data[interaction_type(target_data)]
    if "edge_label_index" not in store:
        raise ValueError(f"{name!r} has no 'edge_label_index'")
    label = as_edges(store.edge_label_index, "edge_label_index")
    if label.size(1) == 0:
        raise ValueError(f"{name!r} has no targets: its 'edge_label_index' is empty")
    if "edge_label" in store:
        label = label[:, _positive(store.edge_label, label, name)]
        if label.size(1) == 0:
            raise ValueError(f"{name!r} has no targets: no 'edge_label' is positive")
    return label


def _positive(edge_label: object, edges: Tensor, name: str) -> Tensor:
    """Which labelled edges are positive, bool ``[E]``."""
    labels = torch.as_tensor(edge_label, device=edges.device)
    if labels.shape != edges.shape[1:]:
        raise ValueError(
            f"'edge_label' of {name!r} must have shape [{edges.size(1)}], a label for each edge of "
            f"'edge_label_index' (got {list(labels.shape)})"
        )
    if bool(labels.isnan().any()):
        raise ValueError(f"'edge_label' of {name!r} must not be NaN")
    return labels > 0


def _keys(neighbors: Neighbors, num_cols: int) -> Tensor:
    return neighbors.row * num_cols + neighbors.col
