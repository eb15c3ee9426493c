"""Exact top-k by inner product: some rows hidden from some queries, others from all.

Scores are computed in tiles that stay in cache and are compared with the score that a list has to
beat, so that hardly any entry is looked at twice, and nothing of queries x rows is allocated.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_count
from pyg_kd.retrieval.seen import Pattern, check_pattern
from pyg_kd.retrieval.selection import (
    LOWEST,
    MAX_ROWS,
    Keys,
    Pool,
    chunk_floor,
    make_keys,
    unpack_keys,
)

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

#: Scores in a tile: 1 MB.
TILE_ENTRIES = 2**18

#: Queries in a tile.
QUERY_BLOCK = 256


class Rows(Protocol):
    """What is searched: a :class:`~pyg_kd.retrieval.tables.Table`, or anything like it."""

    @property
    def dim(self) -> int:
        """Width of a row."""

    def __len__(self) -> int: ...

    def block(self, start: int, stop: int) -> Float32:
        """Rows ``start`` to ``stop``, float32 ``[stop - start, dim]``, which are not changed."""


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
    depth = min(k, len(table))
    rows = np.full((len(x), k), -1, np.int64)
    scores = np.full((len(x), k), -np.inf, np.float32)
    if depth:
        for start in range(0, len(x), QUERY_BLOCK):
            block = slice(start, start + QUERY_BLOCK)
            part = None if hidden is None else _part(hidden, start, start + QUERY_BLOCK)
            keys = _search_block(x[block], table, depth, part, mask)
            rows[block, :depth], scores[block, :depth] = unpack_keys(keys)
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


def _part(hidden: Pattern, start: int, stop: int) -> tuple[Array, Array]:
    """Query, counted from ``start``, and row of the entries of some queries."""
    ptr = hidden.ptr[start : stop + 1]
    query = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    return query, hidden.col[ptr[0] : ptr[-1]]


def _search_block(
    x: Float32,
    table: Rows,
    k: int,
    hidden: tuple[Array, Array] | None,
    allowed: npt.NDArray[np.bool_] | None,
) -> Keys:
    pool = Pool(len(x), k)
    tile = max(TILE_ENTRIES // len(x), 1)
    for start in range(0, len(table), tile):
        stop = min(start + tile, len(table))
        scores = x @ table.block(start, stop).T
        if hidden is not None:
            query, row = hidden
            inside = (row >= start) & (row < stop)
            scores[query[inside], row[inside] - start] = -np.inf
        if allowed is not None:
            scores[:, ~allowed[start:stop]] = -np.inf
        _take(pool, scores, start)
    return pool.best()


def _take(pool: Pool, scores: Float32, start: int) -> None:
    """Add the scores of a tile that reach the floor."""
    if start == 0:
        bound = chunk_floor(scores, pool.k)
        if bound is not None:
            pool.floor = np.maximum(bound, LOWEST)
    # Not "reaches the floor", which NaN doesn't.
    entry = np.flatnonzero(~(scores < pool.floor[:, None]))
    if len(entry):
        query = entry // scores.shape[1]
        value = scores.reshape(-1)[entry]
        if np.isnan(value).any():
            raise ValueError("a score is NaN: 'queries' or the table are not finite")
        pool.add(query, make_keys(value, entry - query * scores.shape[1] + start))
        pool.shrink()


def check_size(table: Rows) -> None:
    """Raise ``ValueError`` for a table with more rows than can be ranked."""
    if len(table) > MAX_ROWS:
        raise ValueError(f"'table' must have at most {MAX_ROWS} rows (got {len(table)})")
