"""What the splits share: ranks of edges within users, and the three graphs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions

#: ``(train, val, test)``.
Split = tuple[HeteroData, HeteroData, HeteroData]

TRAIN, VAL, TEST = 0, 1, 2


def checked_edges(data: HeteroData) -> tuple[Tensor, int]:
    r"""Return the edges to split, int64 ``[2, E]``, and the number of users.

    Raises:
        TypeError: If ``data`` is not a ``HeteroData``.
        ValueError: If ``data`` is not a user-item graph, has no edges, or has an edge
            twice: the two could then end up on different sides of the split.
    """
    edge_index, num_users, num_items = interactions(data)
    num_edges = edge_index.size(1)
    if num_edges == 0:
        raise ValueError("'data' must have edges to split (got none)")
    repeated = num_edges - (edge_index[0] * num_items + edge_index[1]).unique().numel()
    if repeated:
        raise ValueError(
            f"'data' must have no repeated edges (got {repeated}); 'from_interactions' merges them"
        )
    return edge_index, num_users


def check_fractions(val: float, test: float) -> None:
    """Raise ``ValueError`` unless the fractions are not negative and sum to less than 1."""
    for name, value in (("val", val), ("test", test)):
        if not 0 <= value < 1:
            raise ValueError(f"'{name}' must lie in 0..1, 1 excluded (got {value})")
    if val + test >= 1:
        raise ValueError(f"'val' + 'test' must be less than 1 (got {val} + {test})")


def edge_times(data: HeteroData) -> Tensor:
    r"""Return the edge attribute ``time``, ``[E]``.

    Raises:
        ValueError: If there is none, or not one finite number per edge.
    """
    store = data.edge_stores[0]
    if "time" not in store:
        raise ValueError(f"'data' must have the edge attribute 'time' (got {list(store.keys())})")
    time: Tensor = store.time
    if time.dim() != 1 or time.numel() != store.edge_index.size(1):
        raise ValueError(
            f"'time' must have the shape [{store.edge_index.size(1)}] (got {list(time.shape)})"
        )
    if time.is_floating_point() and not bool(time.isfinite().all()):
        raise ValueError("'time' must be finite (got nan or inf)")
    return time


def has_targets(data: HeteroData) -> bool:
    """Whether the graph brings its own test targets."""
    return "edge_label_index" in data.edge_stores[0]


def rank_in_user(user: Tensor, num_users: int, seed: int, time: Tensor | None = None) -> Tensor:
    r"""Rank the edges of every user, at random or latest first.

    Args:
        user: The user of each edge, int64 ``[E]``.
        num_users: Number of users.
        seed: Seed of the order, or of the order among equal times.
        time: If given, the latest edge of a user has the rank 0.

    Returns:
        The ranks, int64 ``[E]``, ``0..n-1`` within a user of ``n`` edges.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(user.numel(), generator=generator).to(user.device)
    if time is not None:
        order = order[time[order].argsort(stable=True, descending=True)]
    order = order[user[order].argsort(stable=True)]
    degree = torch.bincount(user, minlength=num_users)
    start = degree.cumsum(0) - degree
    rank = torch.empty_like(user)
    rank[order] = torch.arange(user.numel(), device=user.device) - start[user[order]]
    return rank


def split_graph(data: HeteroData, part: Tensor) -> Split:
    r"""Build the three graphs from the part of every edge.

    Args:
        data: The graph. If it has an ``edge_label_index``, that stays the targets of
            the test graph.
        part: ``TRAIN``, ``VAL`` or ``TEST`` for each edge, int64 ``[E]``.
    """
    train, val = part == TRAIN, part == VAL
    test_graph = _with_messages(data, train | val, keep_targets=has_targets(data))
    if not has_targets(data):
        _set_targets(test_graph, data, part == TEST)
    val_graph = _with_messages(data, train)
    _set_targets(val_graph, data, val)
    return _with_messages(data, train), val_graph, test_graph


def take(value: Any, index: Tensor, dim: int = 0) -> Any:
    """Select entries of a tensor along ``dim``, or of an array or a list."""
    if isinstance(value, EdgeIndex):  # what it knows of its order no longer holds
        value = value.as_tensor()
    if isinstance(value, Tensor):
        return value.index_select(dim, index.to(value.device))
    if isinstance(value, np.ndarray):
        return value.take(index.cpu().numpy(), axis=dim)
    boxed = np.empty(len(value), dtype=object)
    boxed[:] = value
    return boxed[index.cpu().numpy()].tolist()


def _with_messages(data: HeteroData, mask: Tensor, keep_targets: bool = False) -> HeteroData:
    """The graph with the edges in ``mask`` and whatever attributes they have."""
    index = mask.nonzero().view(-1)
    store = data.edge_stores[0]
    out = copy.copy(data)
    for key, value in store.items():
        if key.startswith("edge_label"):
            if not keep_targets:
                del out.edge_stores[0][key]
        elif store.is_edge_attr(key):
            out.edge_stores[0][key] = take(value, index, data.__cat_dim__(key, value, store))
    return out


def _set_targets(out: HeteroData, data: HeteroData, mask: Tensor) -> None:
    store = data.edge_stores[0]
    target = out.edge_stores[0]
    index = mask.nonzero().view(-1)
    target.edge_label_index = take(store.edge_index, index, 1)
    if "time" in store and store.is_edge_attr("time"):
        target.edge_label_time = take(store.time, index)
