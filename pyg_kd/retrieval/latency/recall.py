"""How many held-out items the lists of an index hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_count
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.seen import Pattern, check_pattern, rows_of

#: Users whose lists are made at once.
BLOCK = 1024


def recall_at(index: TopKIndex, test: tuple[npt.ArrayLike, npt.ArrayLike], k: int = 20) -> float:
    r"""Recall of lists of unseen items, the mean over users who have held-out items.

    Args:
        index: The index.
        test: The held-out items of each user, ``(ptr, col)``: integers ``[U + 1]`` and ``[nnz]``,
            rows of items; repeated ones count once.
        k: Length of the lists.

    Returns:
        The mean share of a user's held-out items that is listed.

    Raises:
        ValueError: If ``test`` doesn't fit the index, or holds no items.

    Example:
        >>> index = TopKIndex(np.eye(2, 3), np.eye(3), seen=([0, 1, 1], [0]))
        >>> recall_at(index, ([0, 1, 3], [1, 0, 1]), k=1)
        0.75
    """
    require_count(k=k)
    held_out = held_out_items(index, test)
    users = np.flatnonzero(np.diff(held_out.ptr))
    shares = [
        _shares(index, held_out, users[start : start + BLOCK], k)
        for start in range(0, len(users), BLOCK)
    ]
    return float(np.concatenate(shares).mean())


def held_out_items(index: TopKIndex, test: tuple[npt.ArrayLike, npt.ArrayLike]) -> Pattern:
    """Held-out items as a checked pattern of the users of an index."""
    if not isinstance(test, tuple) or len(test) != 2:
        raise TypeError(f"'test' must be a pair (ptr, col) (got {type(test).__name__})")
    held_out = check_pattern(*test, index.num_items, "test")
    if len(held_out.ptr) != index.num_users + 1:
        raise ValueError(f"'test' must have {index.num_users} rows (got {len(held_out.ptr) - 1})")
    if not len(held_out.col):
        raise ValueError("'test' must hold items (got none)")
    return held_out


def _shares(
    index: TopKIndex, held_out: Pattern, users: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.float64]:
    best, _ = index.rank(index.vectors_of(users), k, hidden=index.seen.of(users))
    row, _ = listed = np.nonzero(best >= 0)
    keys = row * index.num_items + best[listed]  # one number for each user and item
    wanted = rows_of(held_out, users)
    row = np.repeat(np.arange(len(users)), np.diff(wanted.ptr))
    targets = np.unique(row * index.num_items + wanted.col)
    row = targets // index.num_items
    hits = np.bincount(row[np.isin(targets, keys)], minlength=len(users))
    shares: npt.NDArray[np.float64] = hits / np.bincount(row, minlength=len(users))
    return shares
