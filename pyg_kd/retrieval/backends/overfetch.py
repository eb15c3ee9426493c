"""Lists without hidden rows from indexes that don't know of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_count
from pyg_kd.retrieval.backends.base import Ranked
from pyg_kd.retrieval.search.exact import check_allowed, check_hidden, check_queries, top_k
from pyg_kd.retrieval.search.selection import EMPTY, make_keys, unpack_keys
from pyg_kd.retrieval.seen import Pattern, rows_of
from pyg_kd.retrieval.tables import Table

Array = npt.NDArray[Any]

#: ``fetch(queries, m)`` returns the rows ``[n, m]`` that an index finds, padded with -1, and their
#: scores.
Fetch = Callable[[Array, int], tuple[Array, Array]]

#: If one row in this many is allowed, or fewer, those are searched exactly.
FEW_ALLOWED = 8

#: If one row in this many would be fetched, or more, all of them are searched exactly.
MANY_FETCHED = 8

#: How many times more is fetched for queries with lists too short.
GROWTH = 4


def filtered_top_k(
    fetch: Fetch,
    table: Table,
    queries: Array,
    k: int,
    hidden: Pattern | None,
    allowed: Array | None,
    *,
    exact: bool,
) -> Ranked:
    r"""The best rows of an index that are neither hidden nor banned.

    As many more rows are fetched as most queries hide, and for the others four times as many
    again, until ``k`` are left. Where that would be an eighth of the table, it is searched
    exactly, so that lists are full unless there is nothing more to list.

    Args:
        fetch: Asks the index.
        table: The rows of the index.
        queries: ``[n, d]``.
        k: Length of the lists.
        hidden: Rows that a query must not get.
        allowed: The rows that any query may get, bool ``[I]``. Where they are few, they are
            searched exactly.
        exact: Also settle ties at the ``k``-th place, by fetching beyond them.

    Returns:
        As :func:`pyg_kd.retrieval.search.top_k`.
    """
    require_count(k=k)
    size = len(table)
    x = check_queries(queries, table.dim)
    if not np.isfinite(x).all():
        raise ValueError("a score is NaN: 'queries' are not finite")
    hidden = None if hidden is None else check_hidden(hidden, len(x), size)
    mask = None if allowed is None else check_allowed(allowed, size)
    if not size or (mask is not None and np.count_nonzero(mask) * FEW_ALLOWED <= size):
        return top_k(x, table, k, hidden=hidden, allowed=mask)
    keys = np.full((len(x), k), EMPTY)
    todo, count = np.arange(len(x)), _first_count(k, hidden, mask, size)
    barred = None if hidden is None else _places(hidden, size)
    while len(todo) and count * MANY_FETCHED <= size:
        found, scores = fetch(x[todo], count)
        out = _left_out(found, todo, barred, mask, size)
        if len(x) == 1 and not exact:  # in the order of the index: one request is to be fast
            left = np.flatnonzero(~out[0])[:k]
            if len(left) == k:
                return found[:, left], scores[:, left]
        found_keys = make_keys(scores, found)
        found_keys[out] = EMPTY
        found_keys.sort(axis=1)
        keys[todo] = found_keys[:, :k]
        todo = todo[_short(keys[todo], scores, exact)]
        count *= GROWTH
    rows, values = unpack_keys(keys)
    if len(todo):
        part = None if hidden is None else rows_of(hidden, todo)
        rows[todo], values[todo] = top_k(x[todo], table, k, hidden=part, allowed=mask)
    return rows, values


def _first_count(k: int, hidden: Pattern | None, mask: Array | None, size: int) -> int:
    """How many rows to fetch at first: enough for 19 queries in 20."""
    count = k + 1
    if hidden is not None and len(hidden.ptr) > 1:
        degree = np.diff(hidden.ptr)
        count += int(degree[0] if len(degree) == 1 else np.quantile(degree, 0.95))
    if mask is not None:
        count = int(count * 1.2 * size / np.count_nonzero(mask))
    return min(count, size)


def _places(hidden: Pattern, size: int) -> Array:
    """Ascending integers ``query * size + row`` of what is hidden."""
    if len(hidden.ptr) == 2:
        return np.sort(hidden.col)
    query = np.repeat(np.arange(len(hidden.ptr) - 1), np.diff(hidden.ptr))
    return np.sort(query * size + hidden.col)


def _left_out(
    rows: Array, query: Array, barred: Array | None, mask: Array | None, size: int
) -> npt.NDArray[np.bool_]:
    """Which of the rows that were fetched are missing, hidden or banned."""
    out: npt.NDArray[np.bool_] = rows < 0
    if mask is not None:
        out |= ~mask[rows]
    if barred is not None and len(barred):
        place = rows if len(query) == 1 and query[0] == 0 else query[:, None] * size + rows
        at = barred.searchsorted(place)
        np.minimum(at, len(barred) - 1, out=at)
        out |= barred[at] == place
    return out


def _short(keys: Array, scores: Array, exact: bool) -> npt.NDArray[np.bool_]:
    """Which lists are not full, or end with a score that rows not fetched may have too."""
    short: npt.NDArray[np.bool_] = keys[:, -1] == EMPTY
    if exact:
        short |= unpack_keys(keys[:, -1])[1] <= scores[:, -1]
    return short
