"""The items that users have seen, as a CSR pattern, and what they have seen since."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Pattern(NamedTuple):
    """A CSR pattern: ``col[ptr[r]:ptr[r + 1]]`` are the columns of row ``r``.

    Args:
        ptr: Where each row begins, int64 ``[n + 1]``.
        col: Columns, int32 or int64 ``[nnz]``.
    """

    ptr: Array
    col: Array

    def __repr__(self) -> str:
        return f"Pattern({len(self.ptr) - 1} rows, {len(self.col)} entries)"


def check_pattern(ptr: npt.ArrayLike, col: npt.ArrayLike, size: int, name: str) -> Pattern:
    r"""A pattern of two arrays, which are not copied where they have the right dtypes.

    Args:
        ptr: Where each row begins, integers ``[n + 1]``.
        col: Columns, integers ``[nnz]``.
        size: How many columns there are.
        name: What to call the pattern in messages.

    Raises:
        TypeError: If the arrays are not integers.
        ValueError: If ``ptr`` does not ascend from 0 to the length of ``col``, or a column is
            out of range.
    """
    found = []
    for key, values in (("ptr", ptr), ("col", col)):
        array = np.asarray(values)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1:
            raise ValueError(
                f"'{name}.{key}' must be one-dimensional (got shape {list(array.shape)})"
            )
        if array.dtype.kind not in "iu":
            raise TypeError(f"'{name}.{key}' must be integers (got {array.dtype})")
        keep = array.dtype == np.int64 or (key == "col" and array.dtype == np.int32)
        found.append(array if keep else array.astype(np.int64))
    first, columns = found
    if not len(first) or first[0] != 0 or first[-1] != len(columns):
        ends = (int(first[0]), int(first[-1])) if len(first) else "none"
        raise ValueError(f"'{name}.ptr' must run from 0 to {len(columns)} (got {ends})")
    if (first[1:] < first[:-1]).any():
        raise ValueError(f"'{name}.ptr' must ascend")
    if len(columns):
        low, high = int(columns.min()), int(columns.max())
        if low < 0 or high >= size:
            raise ValueError(
                f"'{name}.col' must lie in 0..{size - 1} (got {low if low < 0 else high})"
            )
    return Pattern(first, columns)


def rows_of(pattern: Pattern, rows: Array) -> Pattern:
    """Some rows of a pattern, in their order; a row of -1 is empty."""
    if len(rows) == 1:  # the usual request
        row = int(rows[0])
        start, stop = (0, 0) if row < 0 else pattern.ptr[row : row + 2].tolist()
        return Pattern(np.array([0, stop - start]), pattern.col[start:stop])
    ptr, entry = entries_of(pattern.ptr, rows)
    return Pattern(ptr, pattern.col[entry])


def entries_of(ptr: Array, rows: Array) -> tuple[Array, Array]:
    """Where each of some rows begins, and the places of their entries, in the rows' order."""
    known = np.where(rows >= 0, rows, 0)
    start = ptr[known]
    degree = np.where(rows >= 0, ptr[known + 1] - start, 0)
    begin = starts_of(degree)
    return begin, np.arange(begin[-1]) + np.repeat(start - begin[:-1], degree)


def pattern_of(lists: Sequence[Array]) -> Pattern:
    """The pattern whose rows are the given lists of columns."""
    columns = np.concatenate(lists) if lists else np.empty(0, np.int64)
    return Pattern(starts_of([len(row) for row in lists]), columns)


def starts_of(sizes: npt.ArrayLike) -> Array:
    """Where rows of some sizes begin, and where the last one ends, int64 ``[n + 1]``."""
    found = np.asarray(sizes, np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(found)])


class Seen:
    r"""What each user has seen, and what was added since: at once, from any thread.

    Args:
        ptr: Where each user's items begin, int64 ``[U + 1]``.
        col: Item rows, int32 or int64 ``[nnz]``.
        num_items: Number of items.

    Raises:
        TypeError: If the arrays are not integers.
        ValueError: If ``ptr`` does not ascend from 0, or an item is out of range.

    Example:
        >>> seen = Seen([0, 2, 2], [3, 1], num_items=5)
        >>> seen.add(1, [4])
        >>> seen.of(np.array([1, 0])).col.tolist()
        [4, 3, 1]
    """

    def __init__(self, ptr: npt.ArrayLike, col: npt.ArrayLike, num_items: int) -> None:
        self.pattern = check_pattern(ptr, col, num_items, "seen")
        self.num_items = num_items
        self.num_users = len(self.pattern.ptr) - 1
        self._added: dict[int, Array] = {}
        self._lock = threading.Lock()

    def of(self, rows: Array) -> Pattern:
        """The items of some users in the order given, int64 ``[n]``; a row of -1 has none."""
        added = self._added
        inside = np.where(rows < self.num_users, rows, -1)  # new users have rows behind
        if not any(row in added for row in rows.tolist()):
            return rows_of(self.pattern, inside)
        return pattern_of([self.history(row) for row in rows.tolist()])

    def stored(self, row: int) -> Array:
        """The items of one user without those that were added."""
        start, stop = (0, 0) if not 0 <= row < self.num_users else self.pattern.ptr[row : row + 2]
        return self.pattern.col[start:stop]

    def history(self, row: int) -> Array:
        """The items of one user, those added last."""
        stored, added = self.stored(row), self._added.get(row)
        return stored if added is None else np.concatenate([stored, added])

    def add(self, row: int, items: npt.ArrayLike) -> None:
        """Note items as seen by a user, whose row may lie beyond the table (a new user).

        Raises:
            ValueError: If an item is out of range, or the row is negative.
        """
        if row < 0:
            raise ValueError(f"'row' must not be negative (got {row})")
        ptr = [0, np.size(items)]
        new = check_pattern(ptr, np.ravel(items), self.num_items, "items").col
        with self._lock:
            known = self.history(row)
            new = np.array([*dict.fromkeys(new.tolist())], np.int64)
            new = new[~np.isin(new, known)]
            old = self._added.get(row, new[:0])
            # A new array: readers keep the one they have.
            self._added[row] = np.concatenate([old, new])
