"""Scores of a block of queries, tile by tile, and the few of each tile that may be listed.

A tile is ``[rows, queries]``: this way BLAS is at its fastest, hidden entries of a tile lie
together, and a row that nobody may get is contiguous.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.selection import LOWEST, Keys, Pool, best_keys, make_keys

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

#: Scores in a tile, 1 MB: what the second-level cache holds for a while.
TILE_ENTRIES = 2**18

#: Scores in the first tile, which tells what a list has to beat: the more it sees, the fewer
#: candidates the others bring.
FIRST_ENTRIES = 2**21

#: Entries compared in one inner loop of NumPy, at least: shorter ones go through its buffers.
STRIP_ENTRIES = 2**14

#: Bytes that a processor loads at once.
ALIGNMENT = 64

#: Values of a table that are widened to float32 at once.
WIDENED_VALUES = 2**20

#: Candidates are merged when this many times more rows have been scored than at the last merge.
GROWTH = 1.5


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


def aligned(size: int, dtype: type) -> Array:
    """An array whose first element begins a cache line."""
    count = size * np.dtype(dtype).itemsize
    raw = np.empty(count + ALIGNMENT, np.uint8)
    skipped = -raw.ctypes.data % ALIGNMENT
    array: Array = raw[skipped : skipped + count].view(dtype)
    return array


SCRATCH = Scratch()


class Block:
    r"""The search of one block of queries.

    Args:
        queries: float32 ``[b, d]``.
        table: The rows searched.
        k: Length of the lists, at most the number of rows.
        hidden: Entries that are not listed, ascending integers ``row * b + query``.
        banned: Rows that nobody gets, ascending.
        ids: What the rows are called, ascending; their positions by default.
    """

    def __init__(
        self,
        queries: Float32,
        table: Rows,
        k: int,
        hidden: Array,
        banned: Array,
        ids: Array | None = None,
    ) -> None:
        self.queries, self.table, self.k = queries, table, k
        self.hidden, self.banned, self.ids = hidden, banned, ids
        self.width = len(queries)
        self.pool = Pool(self.width, k)
        self.found: list[tuple[Float32, Array]] = []

    def search(self) -> Keys:
        """The keys of the best rows of each query, in order ``[b, k]``."""
        size, merged = len(self.table), 0
        for start, stop in spans(size, FIRST_ENTRIES // self.width, TILE_ENTRIES // self.width):
            scores = self._scores(start, stop)
            if start == 0:
                self.pool.floor = first_floor(scores, self.k)
            self._collect(scores, start)
            if stop == size or stop >= GROWTH * merged:
                self._merge()
                merged = stop
        return self.pool.best()

    def _scores(self, start: int, stop: int) -> Float32:
        """A tile of scores without what may not be listed, ``[stop - start, b]``."""
        size = (stop - start) * self.width
        flat = SCRATCH.get("scores", size, np.float32)
        scores = flat.reshape(stop - start, self.width)
        multiply(self.table, self.queries, start, stop, scores)
        if len(self.hidden):
            low, high = np.searchsorted(self.hidden, (start * self.width, stop * self.width))
            flat[self.hidden[low:high] - start * self.width] = -np.inf
        if len(self.banned):
            low, high = np.searchsorted(self.banned, (start, stop))
            scores[self.banned[low:high] - start] = -np.inf
        return scores

    def _collect(self, scores: Float32, start: int) -> None:
        """Note the scores of a tile that reach the floor."""
        entry = np.flatnonzero(reaching(scores, self.pool.floor))
        if len(entry) > 4 * self.k:
            entry = self._without_crowds(scores, start, entry)
        self.found.append((scores.reshape(-1)[entry], entry + start * self.width))

    def _without_crowds(self, scores: Float32, start: int, entry: Array) -> Array:
        """Add the best of queries that would bring far more candidates than they need.

        They have a great many equal scores, as a query of zeros has.
        """
        query = entry % self.width
        crowd = np.bincount(query, minlength=self.width) > 8 * self.k + 64
        if not crowd.any():
            return entry
        queries = np.flatnonzero(crowd)
        values = np.ascontiguousarray(scores[:, queries].T)
        refuse_nan(values)
        keys = best_keys(
            make_keys(values, self._ids(np.arange(start, start + len(scores)))), self.k
        )
        listed = np.repeat(queries, keys.shape[1])
        self.pool.add(listed, keys.reshape(-1))
        others: Array = entry[~crowd[query]]
        return others

    def _merge(self) -> None:
        """Take what was noted into the lists, and raise the floor."""
        values, entries = (np.concatenate(parts) for parts in zip(*self.found, strict=True))
        self.found = []
        refuse_nan(values)
        rows = entries // self.width
        self.pool.add(entries - rows * self.width, make_keys(values, self._ids(rows)))
        self.pool.shrink()

    def _ids(self, rows: Array) -> Array:
        ids: Array = rows if self.ids is None else self.ids[rows]
        return ids


def multiply(table: Rows, queries: Float32, start: int, stop: int, out: Float32) -> None:
    """Products of some rows of a table and queries, ``[stop - start, b]``."""
    step = stop - start
    if getattr(table, "dtype", "float32") != "float32":
        step = WIDENED_VALUES // table.dim
    for low, high in spans(stop - start, step, step):
        np.matmul(table.block(start + low, start + high), queries.T, out=out[low:high])


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


def first_floor(scores: Float32, k: int) -> Float32:
    r"""A score that at least ``k`` entries of each column reach, float32 ``[b]``.

    Rows are split into chunks. The ``k`` largest maxima of chunks are ``k`` entries of the column,
    so that the smallest of them is a bound, and a good one where there are far more chunks than
    ``k``. NaN carries over.

    Args:
        scores: ``[m, b]``.
        k: Length of the lists.
    """
    maxima, rows = scores, len(scores)
    if rows < 4 * k:
        return np.full(scores.shape[1], LOWEST)
    rest = scores[:0]
    while rows // 2 >= 5 * k and rows > 256:
        half = rows // 2
        if rows % 2:
            rest = np.concatenate([rest, maxima[rows - 1 :]])
        out = SCRATCH.get("maxima", half * scores.shape[1], np.float32).reshape(half, -1)
        maxima = np.maximum(maxima[:half], maxima[half : 2 * half], out=out)
        rows = half
    columns = np.concatenate([maxima, rest]).T.copy()
    columns.partition(columns.shape[1] - k, axis=1)
    floor: Float32 = np.maximum(columns[:, columns.shape[1] - k], LOWEST)
    return floor


def reaching(scores: Float32, floor: Float32) -> npt.NDArray[np.bool_]:
    """Whether each of ``[m, b]`` reaches the floor of its column ``[b]``, or is NaN; flat."""
    size, width = len(scores), len(floor)
    below: Array = SCRATCH.get("below", size * width, np.bool_)
    strip = min(-(-STRIP_ENTRIES // width), size)
    whole = size // strip * strip
    floors = SCRATCH.get("floors", strip * width, np.float32)
    floors.reshape(strip, width)[:] = floor
    np.less(
        scores[:whole].reshape(-1, strip * width),
        floors,
        out=below[: whole * width].reshape(-1, strip * width),
    )
    np.less(scores[whole:], floor, out=below[whole * width :].reshape(-1, width))
    return np.logical_not(below, out=below)


def refuse_nan(scores: Float32) -> None:
    """Raise ``ValueError`` if a score is NaN."""
    if np.isnan(scores).any():
        raise ValueError("a score is NaN: 'queries' or the table are not finite, or too large")
