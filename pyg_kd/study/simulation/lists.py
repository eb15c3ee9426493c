"""Served lists: checked, and from whatever ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.models import Recommender
from pyg_kd.retrieval import TopKIndex


def served_lists(
    source: Any, k: int, *, data: HeteroData | None = None, name: str = "lists"
) -> Tensor:
    r"""The list of every user, as it would be served.

    Args:
        source: Lists of items by row, integers ``[U, >= k]``, padded with -1; a
            :class:`~pyg_kd.models.Recommender`, which needs ``data``; or a
            :class:`~pyg_kd.retrieval.TopKIndex`.
        k: Length of the lists.
        data: The graph whose edges are left out of a recommender's lists.
        name: What errors call the lists.

    Returns:
        int64 ``[U, k]``, padded with -1.

    Raises:
        TypeError: If ``source`` is something else.
        ValueError: If lists are shorter than ``k`` or list an item twice.

    Example:
        >>> served_lists([[3, 1, 2], [0, 1, -1]], k=2)
        tensor([[3, 1],
                [0, 1]])
    """
    if isinstance(source, Recommender):
        if data is None:
            raise ValueError(f"{name!r} is a model, which needs the graph in 'data' (got None)")
        return source.recommend(data, k)[0]
    if isinstance(source, TopKIndex):
        rows = np.arange(source.num_users)
        hidden = source.seen.pattern if source.has_seen else None
        found, _ = source.rank(source.vectors_of(rows), k, hidden=hidden)
        return torch.from_numpy(found)
    lists = _integers(source, name)
    if lists.dim() != 2 or lists.size(1) < k:
        raise ValueError(f"{name!r} must be [U, {k}] or longer (got {list(lists.shape)})")
    check_lists(name, lists, None)
    return lists[:, :k]


def _integers(source: Any, name: str) -> Tensor:
    try:
        lists = torch.as_tensor(source)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name!r} must be lists of items [U, K], a Recommender or a TopKIndex "
            f"(got {type(source).__name__})"
        ) from error
    if lists.is_floating_point() or lists.dtype == torch.bool:
        raise TypeError(f"{name!r} must hold integers, rows of items (got {lists.dtype})")
    return lists.long()


def check_lists(name: str, lists: Tensor, num_items: int | None) -> None:
    """Raise ``ValueError`` unless each of the lists ``[n, K]`` names an item once at most.

    Padding of -1 is allowed at the end, and nowhere else.
    """
    if lists.dim() != 2:
        raise ValueError(f"{name!r} must be [n, K] (got shape {list(lists.shape)})")
    check_listed(name, lists, num_items)
    ordered = lists.sort(1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if bool(twice.any()):
        row, place = (int(v) for v in twice.nonzero()[0])
        item = int(ordered[row, place])
        raise ValueError(f"{name!r} must list an item once (got item {item} twice in row {row})")
    gap = (lists[:, :-1] < 0) & (lists[:, 1:] >= 0)
    if bool(gap.any()):
        row = int(gap.any(1).nonzero()[0])
        raise ValueError(f"{name!r} must be padded at the end (got {lists[row].tolist()})")


def check_listed(name: str, items: Tensor, num_items: int | None) -> None:
    """Raise ``ValueError`` unless all items lie in ``-1..num_items - 1``."""
    if not items.numel():
        return
    low, high = (int(v) for v in torch.aminmax(items))
    if low < -1:
        raise ValueError(f"{name!r} must hold items, or -1 for padding (got {low})")
    if num_items is not None and high >= num_items:
        raise ValueError(f"{name!r} must lie in -1..{num_items - 1} (got {high})")
