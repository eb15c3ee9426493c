"""Products of rows of a table and queries, in buffers that threads keep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

#: Bytes that a processor loads at once.
ALIGNMENT = 64

#: Values of a table that are widened to float32 at once.
WIDENED_VALUES = 2**20


class Rows(Protocol):
    """What is searched: a :class:`~pyg_kd.retrieval.tables.Table`, or anything like it."""

    @property
    def dim(self) -> int:
        """Width of a row."""

    def __len__(self) -> int: ...

    def block(self, start: int, stop: int) -> Float32:
        """Rows ``start`` to ``stop``, float32 ``[stop - start, dim]``, which are not changed."""

    def rows(self, index: Array) -> Float32:
        """Some rows, int64 ``[m]``, as float32 ``[m, dim]``."""


class SomeRows:
    """Some rows of a table, int64 ``[m]``, gathered when they are asked for."""

    dtype = "gathered"

    def __init__(self, table: Rows, index: Array) -> None:
        self.table, self.index, self.dim = table, index, table.dim

    def __len__(self) -> int:
        return len(self.index)

    def block(self, start: int, stop: int) -> Float32:
        """Rows ``start`` to ``stop`` of them."""
        return self.table.rows(self.index[start:stop])

    def rows(self, index: Array) -> Float32:
        """Some of them."""
        return self.table.rows(self.index[index])


class _Held:
    """Widened rows of a table, from ``first`` on."""

    def __init__(self, values: Float32, first: int) -> None:
        self.values, self.first, self.dim = values, first, values.shape[1]

    def __len__(self) -> int:
        return self.first + len(self.values)

    def block(self, start: int, stop: int) -> Float32:
        return self.values[start - self.first : stop - self.first]

    def rows(self, index: Array) -> Float32:
        values: Float32 = self.values[index - self.first]
        return values


def widened(table: Rows, start: int, stop: int) -> Rows:
    """The table, or a range of its rows widened once for several products, if they aren't many."""
    if not _is_wide(table) and (stop - start) * table.dim <= 4 * WIDENED_VALUES:
        return _Held(table.block(start, stop), start)
    return table


def multiply(table: Rows, queries: Float32, start: int, stop: int, out: Float32) -> None:
    """Products of some rows of a table and queries, ``[stop - start, b]``."""
    step = stop - start if _is_wide(table) else WIDENED_VALUES // table.dim
    for low, high in spans(stop - start, step, step):
        np.matmul(table.block(start + low, start + high), queries.T, out=out[low:high])


def _is_wide(table: Rows) -> bool:
    """Whether blocks are views of float32 values."""
    return getattr(table, "dtype", "float32") == "float32"


def spans(size: int, first: int, step: int) -> Iterator[tuple[int, int]]:
    """Ranges that cover ``size`` rows, a first one and others of ``step``.

    None has a single row, whose products BLAS sums in another order, unless there is but one.
    """
    start, stop = 0, min(max(first, 2), size)
    while start < size:
        if size - stop == 1:
            stop = size
        yield start, stop
        start, stop = stop, min(stop + max(step, 2), size)


class Scratch(threading.local):
    """Buffers that a thread keeps, since fresh memory costs more than what is done in it."""

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def get(self, name: str, size: int, dtype: type) -> Array:
        """The first ``size`` elements of a buffer."""
        found = self._kept.get(name)
        if found is None or len(found) < size:
            found = self._kept[name] = aligned(size, dtype)
        return found[:size]


SCRATCH = Scratch()


def aligned(size: int, dtype: type) -> Array:
    """An array whose first element begins a cache line."""
    count = size * np.dtype(dtype).itemsize
    raw = np.empty(count + ALIGNMENT, np.uint8)
    skipped = -raw.ctypes.data % ALIGNMENT
    array: Array = raw[skipped : skipped + count].view(dtype)
    return array
