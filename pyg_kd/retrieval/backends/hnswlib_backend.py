"""Ranking by hnswlib: a walk on a graph of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_count
from pyg_kd.retrieval.backends.base import Ranked
from pyg_kd.retrieval.backends.overfetch import filtered_top_k
from pyg_kd.retrieval.extras import need
from pyg_kd.retrieval.search.exact import top_k
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import Table

Array = npt.NDArray[Any]

#: Rows that are handed to the library at once.
ADDED_ROWS = 2**16


class HnswlibBackend:
    r"""An index of hnswlib over the inner product, which keeps the table as float32.

    The library's distance is one minus the score, so that scores are rounded to seven digits after
    the point.

    Args:
        table: The rows to rank.
        num_neighbors: Neighbours of a row in the graph.
        build_width: Candidates while the graph is built.
        search_width: Candidates of a search.
        num_threads: Threads of one search; by default all cores.
        seed: Seed of the graph's levels.

    Raises:
        ImportError: If hnswlib is missing.
        ValueError: If an option is not a positive integer.
    """

    name = "hnswlib"
    exact = False

    def __init__(
        self,
        table: Table,
        *,
        num_neighbors: int = 32,
        build_width: int = 200,
        search_width: int = 200,
        num_threads: int | None = None,
        seed: int = 0,
    ) -> None:
        require_count(num_neighbors=num_neighbors, build_width=build_width)
        require_count(search_width=search_width)
        library = need("hnswlib", "hnswlib", "this backend")
        self.table = table
        self.num_threads = -1 if num_threads is None else num_threads
        self.index = library.Index(space="ip", dim=table.dim)
        self.index.init_index(
            max(len(table), 1), M=num_neighbors, ef_construction=build_width, random_seed=seed
        )
        for start in range(0, len(table), ADDED_ROWS):
            stop = min(start + ADDED_ROWS, len(table))
            self.index.add_items(table.block(start, stop), np.arange(start, stop))
        self.index.set_ef(search_width)

    def top_k(
        self,
        queries: Array,
        k: int,
        *,
        hidden: Pattern | None = None,
        allowed: Array | None = None,
    ) -> Ranked:
        """See :func:`pyg_kd.retrieval.search.top_k`."""
        return filtered_top_k(self._fetch, self.table, queries, k, hidden, allowed, exact=False)

    def _fetch(self, queries: Array, count: int) -> tuple[Array, Array]:
        try:
            rows, distance = self.index.knn_query(queries, count, self.num_threads)
        except RuntimeError:  # the walk met fewer rows than were asked for
            return top_k(queries, self.table, count)
        return rows.view(np.int64), np.float32(1) - distance
