"""One request, as a whole and part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.latency.report import STAGES
from pyg_kd.retrieval.search.products import multiply
from pyg_kd.retrieval.tables import Float32, Table

Clock = Callable[[], float]

#: Ids of the users of one request.
Users = Sequence[Any]

#: Scores of a tile of the bare product: 1 MB.
TILE_ENTRIES = 2**18


def timed_request(
    index: TopKIndex, users: Users, k: int, *, exclude_seen: bool, clock: Clock
) -> float:
    """The seconds of one request from ids to ids, as a caller sees it."""
    start = clock()
    index.search(users, k, exclude_seen=exclude_seen)
    return clock() - start


def timed_stages(
    index: TopKIndex, users: Users, k: int, *, exclude_seen: bool, clock: Clock
) -> dict[str, float]:
    r"""The seconds of each part of one request.

    The look-up is from ids to vectors, and of the ids listed; the filter is what is found out
    about hidden and allowed items. Ranking is one pass in which tiles of scores are masked and
    selected from, so its scoring is timed as the bare product of the same vectors and tiles, and
    the top-k is what ranking takes beyond that. Where the product isn't NumPy's, all of the
    ranking is top-k.
    """
    marks = [clock()]
    rows = index.newcomers.rows(users, "users")
    queries = index.vectors_of(rows)
    marks.append(clock())
    allowed = index.allowed()
    hidden = index.seen.of(rows) if exclude_seen else None
    marks.append(clock())
    best, _ = index.rank(queries, k, hidden=hidden, allowed=allowed)
    marks.append(clock())
    index.items.take(best)
    marks.append(clock())
    look_up, filtering, ranking, last = (stop - start for start, stop in pairwise(marks))
    scoring = 0.0
    if index.backend.name == "numpy":
        scoring = min(_timed_product(queries, index.x_item, clock), ranking)
    seconds = (look_up + last, filtering, scoring, ranking - scoring)
    return dict(zip(STAGES, seconds, strict=True))


def _timed_product(queries: Float32, table: Table, clock: Clock) -> float:
    tile = max(TILE_ENTRIES // len(queries), 1)
    scores = np.empty((min(tile, len(table)), len(queries)), np.float32)
    start = clock()
    for first in range(0, len(table), tile):
        last = min(first + tile, len(table))
        multiply(table, queries, first, last, scores[: last - first])
    return clock() - start
