"""Exact top-k by inner product: some rows hidden from some queries, others from all.

Scores are computed in tiles that stay in cache and are compared with the score that a list has to
beat, so that hardly any entry is looked at twice, and nothing of queries x rows is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_count
from pyg_kd.retrieval.search.blas_threads import single_threaded_blas, usable_threads
from pyg_kd.retrieval.search.one_query import MOST_ROWS, search_one
from pyg_kd.retrieval.search.products import Float32, Rows, SomeRows
from pyg_kd.retrieval.search.selection import MAX_ROWS, Keys, unpack_keys
from pyg_kd.retrieval.search.tiles import Block, search_blocks
from pyg_kd.retrieval.seen import Pattern, check_pattern

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.int64]

#: Queries searched together.
QUERY_BLOCK = 256

#: Blocks that a thread searches together.
BLOCKS_TOGETHER = 4

#: Places of lists in a block.
LISTED_ENTRIES = 2**20

#: What gathering a row costs, in products with a query.
GATHER_COST = 16

#: Multiplications below which a second thread costs more than it brings.
WORTH_THREADS = 2**26


def top_k(
    queries: npt.ArrayLike,
    table: Rows,
    k: int,
    *,
    hidden: Pattern | None = None,
    allowed: npt.ArrayLike | None = None,
) -> tuple[Ids, Float32]:
    r"""The ``k`` rows of a table with the largest inner product with each query, exactly.

    The order is by score, descending, and among equal scores by row, ascending, at the ``k``-th
    place too. Both zeros are equal, and a score of minus infinity is never listed.

    Scores are the float32 products that BLAS computes, in an order of summation that is its own.
    Where its kernels for AVX-512 are used, the score of a pair depends on nothing else, except that
    a single query is a product of a matrix and a vector, which rounds differently in the last
    digit. Kernels for AVX2 round differently at the edges of a tile, so that the last digit may
    depend on how many queries are asked together, and equal rows may differ in it. The same call
    gives the same bits.

    Args:
        queries: ``[n, d]``, floating point.
        table: ``I`` rows of width ``d``.
        k: Length of the lists; it may exceed ``I``.
        hidden: Rows that a query must not get, a pattern of ``n`` rows and ``I`` columns, in
            any order; an entry may occur twice.
        allowed: The rows that any query may get, bool ``[I]``. All by default.

    Returns:
        Rows, int64 ``[n, k]``, and scores, float32 ``[n, k]``. Where fewer than ``k`` rows are
        left, lists are padded with -1 and minus infinity.

    Raises:
        TypeError: If queries are not floating point, or ``allowed`` is not bool.
        ValueError: If ``k`` is not a positive integer, a shape or a hidden row is wrong, or a
            score that counts is NaN.

    Example:
        >>> from pyg_kd.retrieval.tables import Table
        >>> table = Table.of(np.array([[1.0], [3.0], [2.0]]))
        >>> rows, scores = top_k(np.ones((1, 1)), table, k=2, allowed=[True, False, True])
        >>> rows.tolist(), scores.tolist()
        ([[2, 0]], [[2.0, 1.0]])
    """
    require_count(k=k)
    k = int(k)
    check_size(table)
    x = check_queries(queries, table.dim)
    hidden = None if hidden is None else check_hidden(hidden, len(x), len(table))
    mask = None if allowed is None else check_allowed(allowed, len(table))
    depth = min(k, len(table) if mask is None else np.count_nonzero(mask))
    rows = np.full((len(x), k), -1, np.int64)
    scores = np.full((len(x), k), -np.inf, np.float32)
    if depth and len(x):
        search = _Search(x, table, int(depth), hidden, mask)
        for block, keys in search.run():
            place = block, slice(keys.shape[1])
            rows[place], scores[place] = unpack_keys(keys)
    return rows, scores


def check_queries(queries: npt.ArrayLike, dim: int) -> Float32:
    """Queries as float32 ``[n, dim]``."""
    x = np.asarray(queries)
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"'queries' must have shape [n, {dim}] (got {list(x.shape)})")
    if x.dtype.kind != "f":
        raise TypeError(f"'queries' must be floating point (got {x.dtype})")
    return np.ascontiguousarray(x, np.float32)


def check_hidden(hidden: Pattern, num_queries: int, num_rows: int) -> Pattern:
    """A pattern of ``num_queries`` rows whose columns are below ``num_rows``."""
    pattern = check_pattern(hidden.ptr, hidden.col, num_rows, "hidden")
    if len(pattern.ptr) != num_queries + 1:
        raise ValueError(f"'hidden' must have {num_queries} rows (got {len(pattern.ptr) - 1})")
    return pattern


def check_allowed(allowed: npt.ArrayLike, num_rows: int) -> npt.NDArray[np.bool_]:
    """A mask, bool ``[num_rows]``."""
    mask = np.asarray(allowed)
    if mask.dtype != np.bool_:
        raise TypeError(f"'allowed' must be bool (got {mask.dtype})")
    if mask.shape != (num_rows,):
        raise ValueError(f"'allowed' must have shape [{num_rows}] (got {list(mask.shape)})")
    return mask


def check_size(table: Rows) -> None:
    """Raise ``ValueError`` for a table with more rows than can be ranked."""
    if len(table) > MAX_ROWS:
        raise ValueError(f"'table' must have at most {MAX_ROWS} rows (got {len(table)})")


class _Search:
    """All blocks of queries: one after the other, or in threads."""

    def __init__(
        self, x: Float32, table: Rows, k: int, hidden: Pattern | None, mask: Array | None
    ) -> None:
        self.x, self.table, self.k, self.hidden = x, table, k, hidden
        self.banned, self.ids, self.place = np.empty(0, np.int64), None, None
        if mask is None:
            return
        share = np.count_nonzero(mask) / len(mask)
        if share * (len(x) + GATHER_COST) < len(x):
            self.ids = np.flatnonzero(mask)
            self.table = SomeRows(table, self.ids)
            self.place = np.full(len(mask), -1, np.int64)
            self.place[self.ids] = np.arange(len(self.ids))
        else:
            self.banned = np.flatnonzero(~mask)

    def run(self) -> Iterator[tuple[slice, Keys]]:
        """Each block of queries and its keys."""
        n, threads = len(self.x), 1
        if n * len(self.table) * self.table.dim >= WORTH_THREADS and n > 1:
            threads = usable_threads()
        size = max(min(QUERY_BLOCK, LISTED_ENTRIES // self.k), 2)
        # No block of one query, whose products BLAS sums in another order.
        parts = max(min(max(-(-n // size), threads), n // 2), 1)
        blocks = [slice(*ends) for ends in pairwise(n * i // parts for i in range(parts + 1))]
        groups = self._groups(blocks, threads)
        if threads == 1:
            for group in groups:
                yield from zip(group, self._search(group), strict=True)
            return
        with single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
            try:
                for group, found in zip(groups, pool.map(self._search, groups), strict=True):
                    yield from zip(group, found, strict=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    @staticmethod
    def _groups(blocks: list[slice], threads: int) -> list[list[slice]]:
        """Blocks that share the tiles of the table, as much work for each thread."""
        turns = -(-len(blocks) // (BLOCKS_TOGETHER * threads))
        count = min(turns * threads, len(blocks))
        ends = pairwise(len(blocks) * i // count for i in range(count + 1))
        return [blocks[start:stop] for start, stop in ends]

    def _search(self, group: list[slice]) -> list[Keys]:
        if group == [slice(0, 1)] and len(self.table) <= MOST_ROWS:
            return [self._search_one(self.x)]
        blocks = [
            Block(self.x[part], self.k, self._hidden(part.start, part.stop), self.banned, self.ids)
            for part in group
        ]
        return search_blocks(self.table, blocks)

    def _search_one(self, x: Float32) -> Keys:
        barred = [] if self.hidden is None else [self.hidden.col]
        if self.place is not None:
            barred = [found[found >= 0] for found in (self.place[rows] for rows in barred)]
        return search_one(x, self.table, self.k, [*barred, self.banned], self.ids)

    def _hidden(self, start: int, stop: int) -> Array:
        """What some queries must not get, as places ``row * b + query`` in ascending order."""
        if self.hidden is None:
            return np.empty(0, np.int64)
        ptr = self.hidden.ptr[start : stop + 1]
        row = self.hidden.col[ptr[0] : ptr[-1]].astype(np.int64)
        query = np.repeat(np.arange(stop - start), np.diff(ptr))
        if self.place is not None:
            row = self.place[row]
            query, row = query[row >= 0], row[row >= 0]
        row *= stop - start
        row += query
        row.sort()
        return row
