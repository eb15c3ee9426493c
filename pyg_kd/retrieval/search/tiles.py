"""Scores of blocks of queries, tile by tile, and the few of each tile that may be listed.

A tile is ``[rows, queries]``: this way BLAS is at its fastest, hidden entries of a tile lie
together, and a row that nobody may get is contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.search.products import SCRATCH, Float32, Rows, multiply, spans, widened
from pyg_kd.retrieval.search.selection import LOWEST, Keys, Pool, best_keys, make_keys

Array = npt.NDArray[Any]

#: Scores in a tile, 1 MB: what the second-level cache holds for a while.
TILE_ENTRIES = 2**18

#: Scores in the first tile, which tells what a list has to beat: the more it sees, the fewer
#: candidates the others bring.
FIRST_ENTRIES = 2**21

#: Entries compared in one inner loop of NumPy, at least: shorter ones go through its buffers.
STRIP_ENTRIES = 2**14

#: Candidates are merged when this many times more rows have been scored than at the last merge.
GROWTH = 1.5


class Block:
    r"""The lists of one block of queries while tiles come in.

    Args:
        queries: float32 ``[b, d]``.
        k: Length of the lists, at most the number of rows.
        hidden: Entries that are not listed, ascending integers ``row * b + query``.
        banned: Rows that nobody gets, ascending.
        ids: What the rows are called, ascending; their positions by default.
    """

    def __init__(
        self, queries: Float32, k: int, hidden: Array, banned: Array, ids: Array | None = None
    ) -> None:
        self.queries, self.k = queries, k
        self.hidden, self.banned, self.ids = hidden, banned, ids
        self.width = len(queries)
        self.pool = Pool(self.width, k)
        self.found: list[tuple[Float32, Array]] = []

    def take(self, table: Rows, start: int, stop: int) -> None:
        """Score some rows, and note what reaches the floor."""
        scores = self._scores(table, start, stop)
        if start == 0:
            self.pool.floor = first_floor(scores, self.k)
        entry = np.flatnonzero(reaching(scores, self.pool.floor))
        if len(entry) > 8 * self.k:
            entry = self._without_crowds(scores, start, entry)
        self.found.append((scores.reshape(-1)[entry], entry + start * self.width))

    def _scores(self, table: Rows, start: int, stop: int) -> Float32:
        """A tile of scores without what may not be listed, ``[stop - start, b]``."""
        flat = SCRATCH.get("scores", (stop - start) * self.width, np.float32)
        scores: Float32 = flat.reshape(stop - start, self.width)
        multiply(table, self.queries, start, stop, scores)
        if len(self.hidden):
            low, high = np.searchsorted(self.hidden, (start * self.width, stop * self.width))
            flat[self.hidden[low:high] - start * self.width] = -np.inf
        if len(self.banned):
            low, high = np.searchsorted(self.banned, (start, stop))
            scores[self.banned[low:high] - start] = -np.inf
        return scores

    def _without_crowds(self, scores: Float32, start: int, entry: Array) -> Array:
        """Add the best of queries that would bring far more candidates than they need.

        They have a great many equal scores, as a query of zeros has.
        """
        query = entry - entry // self.width * self.width
        crowd = np.bincount(query, minlength=self.width) > 8 * self.k + 64
        if not crowd.any():
            return entry
        queries = np.flatnonzero(crowd)
        values = np.ascontiguousarray(scores[:, queries].T)
        refuse_nan(values)
        rows = self._ids(np.arange(start, start + len(scores)))
        keys = best_keys(make_keys(values, rows), self.k)
        self.pool.add(np.repeat(queries, keys.shape[1]), keys.reshape(-1))
        others: Array = entry[~crowd[query]]
        return others

    def merge(self) -> None:
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


def search_blocks(table: Rows, blocks: Sequence[Block]) -> list[Keys]:
    """The keys of the best rows of each query, in order, ``[b, k]`` a block.

    Each tile of the table serves all blocks while it is in cache.
    """
    size, merged = len(table), 0
    width = max(block.width for block in blocks)
    for start, stop in spans(size, FIRST_ENTRIES // width, TILE_ENTRIES // width):
        part = widened(table, start, stop)
        due = stop == size or stop >= GROWTH * merged
        for block in blocks:
            block.take(part, start, stop)
            if due:
                block.merge()
        if due:
            merged = stop
    return [block.pool.best() for block in blocks]


def first_floor(scores: Float32, k: int) -> Float32:
    r"""A score that at least ``k`` entries of each column reach, float32 ``[b]``.

    Rows are split into chunks. The ``k`` largest maxima of chunks are ``k`` entries of the column,
    so that the smallest of them is a bound, and a good one where there are far more chunks than
    ``k``.

    Args:
        scores: ``[m, b]``.
        k: Length of the lists.
    """
    rows, width = scores.shape
    if rows < 4 * k:
        return np.full(width, LOWEST)
    maxima = scores
    while rows >= 10 * k and rows > 256:
        half = rows // 2  # of an odd number, the last one is left out
        out = SCRATCH.get("maxima", half * width, np.float32).reshape(half, width)
        maxima = np.maximum(maxima[:half], maxima[half : 2 * half], out=out)
        rows = half
    columns = maxima.T.copy()
    columns.partition(rows - k, axis=1)
    floor: Float32 = np.maximum(columns[:, rows - k], LOWEST)
    return floor


def reaching(scores: Float32, floor: Float32) -> npt.NDArray[np.bool_]:
    """Whether each of ``[m, b]`` reaches the floor of its column ``[b]``, or is NaN; flat."""
    size, width = scores.shape
    below: Array = SCRATCH.get("below", size * width, np.bool_)
    strip = min(-(-STRIP_ENTRIES // width), max(size, 1))
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
