"""Histories of users: checked, every item once, and summed over a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.seen import check_pattern, entries_of
from pyg_kd.retrieval.tables import Float32, Table

Array = npt.NDArray[Any]

#: Numbers gathered from a table at once.
GATHERED = 2**21


class Histories(NamedTuple):
    """Items of ``n`` users, ascending and each once.

    Args:
        ptr: Where each user's items begin, int64 ``[n + 1]``.
        col: Items, ``[nnz]``.
        weight: The strength of each interaction, float32 ``[nnz]``, or ``None`` for ones.
    """

    ptr: Array
    col: Array
    weight: Float32 | None = None

    @property
    def degree(self) -> Array:
        """Number of items of each user, int64 ``[n]``."""
        return np.diff(self.ptr)

    @property
    def row(self) -> Array:
        """The user of each entry, int64 ``[nnz]``."""
        return np.repeat(np.arange(len(self.ptr) - 1), self.degree)

    def of(self, rows: Array) -> Histories:
        """The histories of some users, in their order."""
        ptr, entry = entries_of(self.ptr, rows)
        return Histories(ptr, self.col[entry], None if self.weight is None else self.weight[entry])

    def only(self, entries: Array) -> Histories:
        """The histories with some of the entries, bool ``[nnz]``."""
        ptr = np.concatenate([[0], np.cumsum(entries)])[self.ptr]
        return Histories(
            ptr, self.col[entries], None if self.weight is None else self.weight[entries]
        )


def histories_of(
    ptr: npt.ArrayLike, col: npt.ArrayLike, size: int, weights: npt.ArrayLike | None = None
) -> Histories:
    r"""Check histories, and keep each item of a user once, with the largest of its weights.

    Args:
        ptr: Where each user's items begin, integers ``[n + 1]``.
        col: Items, integers ``[nnz]``.
        size: Number of items.
        weights: Strengths of the interactions, not negative, ``[nnz]``.

    Raises:
        TypeError: If ``ptr`` or ``col`` are not integers, or weights are no numbers.
        ValueError: If ``ptr`` doesn't ascend from 0, an item is out of range, or a weight is
            negative or not finite.
    """
    begin, item = check_pattern(ptr, col, size, "history")
    weight = None if weights is None else _checked(weights, len(item))
    row = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    key = row * size + item
    if (key[1:] > key[:-1]).all():
        return Histories(begin, item, weight)
    if weight is None:
        key = np.unique(key)
    else:
        order = np.argsort(key, kind="stable")
        key, first = np.unique(key[order], return_index=True)
        weight = np.maximum.reduceat(weight[order], first)
    row, item = np.divmod(key, size)
    return Histories(np.searchsorted(row, np.arange(len(begin))), item, weight)


def _checked(weights: npt.ArrayLike, count: int) -> Float32:
    weight = np.asarray(weights)
    if weight.dtype.kind not in "fiu":
        raise TypeError(f"'weights' must be numbers (got {weight.dtype})")
    if weight.shape != (count,):
        raise ValueError(f"'weights' must be [{count}] (got {list(weight.shape)})")
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        raise ValueError(f"'weights' must be finite and not negative (got {weight[wrong][0]})")
    return weight.astype(np.float32)


def weighted_sums(table: Table, histories: Histories) -> Float32:
    r"""The sum of each user's rows of a table, float32 ``[n, d]``; zeros for an empty history.

    Args:
        table: Vectors of the items.
        histories: The items of ``n`` users, and their weights.
    """
    sums = np.zeros((len(histories.ptr) - 1, table.dim), np.float32)
    filled = np.flatnonzero(histories.degree)
    for rows in _portions(histories.degree[filled], GATHERED // table.dim):
        users = filled[rows]
        entries = slice(histories.ptr[users[0]], histories.ptr[users[-1] + 1])
        x = table.rows(histories.col[entries])
        if histories.weight is not None:
            x = x * histories.weight[entries, None]
        begin = histories.ptr[users] - entries.start
        sums[users] = np.add.reduceat(x, begin, axis=0, dtype=np.float64)
    return sums


def _portions(sizes: Array, most: int) -> Iterator[slice]:
    """Ranges of consecutive users with about ``most`` entries, at least one user each."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
