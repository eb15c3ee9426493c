"""Ranking by the indexes of faiss."""

from __future__ import annotations

from math import isqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_choice, require_count
from pyg_kd.retrieval.backends.base import Ranked
from pyg_kd.retrieval.backends.overfetch import filtered_top_k
from pyg_kd.retrieval.extras import need
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import Table

Array = npt.NDArray[Any]

#: Rows that are handed to faiss at once.
ADDED_ROWS = 2**16


class FaissBackend:
    r"""An index of faiss over the inner product, which keeps the table as float32.

    Args:
        table: The rows to rank.
        kind: ``"flat"`` compares with all rows, ``"ivf"`` with those of the nearest cells, and
            ``"hnsw"`` walks a graph of neighbours.
        num_cells: Cells of ``"ivf"``; by default four times the square root of the rows.
        num_probed: How many of them are searched; by default a quarter.
        num_neighbors: Neighbours of a row in the graph of ``"hnsw"``.
        build_width: Candidates while that graph is built.
        search_width: Candidates of a search in it.
        index: An index of faiss over the same rows, instead of building one.

    Raises:
        ImportError: If faiss is missing.
        ValueError: If an option is out of range, or ``index`` has other rows.
    """

    def __init__(
        self,
        table: Table,
        *,
        kind: Literal["flat", "ivf", "hnsw"] = "flat",
        num_cells: int | None = None,
        num_probed: int | None = None,
        num_neighbors: int = 32,
        build_width: int = 200,
        search_width: int = 200,
        index: Any = None,
    ) -> None:
        require_choice(("flat", "ivf", "hnsw"), kind=kind)
        self.faiss = need("faiss", "faiss", "this backend")
        self.table, self.kind = table, kind
        self.name, self.exact = f"faiss-{kind}", kind == "flat"
        if num_cells is None:
            num_cells = max(min(4 * isqrt(len(table)), len(table) // 39), 1)
        if num_probed is None:
            num_probed = max(num_cells // 4, 1)
        require_count(num_cells=num_cells, num_probed=num_probed, num_neighbors=num_neighbors)
        require_count(build_width=build_width, search_width=search_width)
        self.num_cells, self.num_probed = num_cells, num_probed
        self.num_neighbors, self.build_width = num_neighbors, build_width
        self.search_width = search_width
        self.index = self._build() if index is None else index
        if (self.index.ntotal, self.index.d) != (len(table), table.dim):
            raise ValueError(
                f"'index' must hold {len(table)} rows of width {table.dim} "
                f"(got {self.index.ntotal} of {self.index.d})"
            )

    def _build(self) -> Any:
        faiss, dim = self.faiss, self.table.dim
        if self.kind == "flat":
            index = faiss.IndexFlatIP(dim)
        elif self.kind == "ivf":
            quantizer = faiss.IndexFlatIP(dim)
            inner = faiss.METRIC_INNER_PRODUCT
            index = faiss.IndexIVFFlat(quantizer, dim, self.num_cells, inner)
            index.own_fields = True
            quantizer.this.disown()
            index.cp.min_points_per_centroid = 1
            if len(self.table):
                index.train(self._sample())
        else:
            index = faiss.IndexHNSWFlat(dim, self.num_neighbors, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = self.build_width
        for start in range(0, len(self.table), ADDED_ROWS):
            stop = min(start + ADDED_ROWS, len(self.table))
            index.add(np.ascontiguousarray(self.table.block(start, stop)))
        return index

    def _sample(self) -> Array:
        """Rows that the cells are fitted to: up to 256 a cell, evenly spaced."""
        count = min(len(self.table), 256 * self.num_cells)
        return self.table.rows(np.linspace(0, len(self.table) - 1, count).astype(np.int64))

    def top_k(
        self,
        queries: Array,
        k: int,
        *,
        hidden: Pattern | None = None,
        allowed: Array | None = None,
    ) -> Ranked:
        """See :func:`pyg_kd.retrieval.search.top_k`."""
        return filtered_top_k(
            self._fetch, self.table, queries, k, hidden, allowed, exact=self.exact
        )

    def _fetch(self, queries: Array, count: int) -> tuple[Array, Array]:
        scores, rows = self.index.search(queries, count, params=self._parameters(count))
        return rows, scores

    def _parameters(self, count: int) -> Any:
        """Wider searches for longer lists: at least as many candidates as are asked for."""
        size = max(len(self.table), 1)
        if self.kind == "ivf":
            share = min(4 * count / size, 1)
            cells = max(self.num_probed, int(np.ceil(share * self.num_cells)))
            return self.faiss.SearchParametersIVF(nprobe=min(cells, self.num_cells))
        if self.kind == "hnsw":
            return self.faiss.SearchParametersHNSW(efSearch=max(self.search_width, count))
        return None
