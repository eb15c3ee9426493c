"""Exact ranking by NumPy and the BLAS it comes with."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from pyg_kd.retrieval.backends.base import Ranked
from pyg_kd.retrieval.search.exact import top_k
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import Table

Array = npt.NDArray[Any]


class NumpyBackend:
    """:func:`pyg_kd.retrieval.search.top_k` of one table."""

    name = "numpy"
    exact = True

    def __init__(self, table: Table) -> None:
        self.table = table

    def top_k(
        self,
        queries: Array,
        k: int,
        *,
        hidden: Pattern | None = None,
        allowed: Array | None = None,
    ) -> Ranked:
        """See :func:`pyg_kd.retrieval.search.top_k`."""
        return top_k(queries, self.table, k, hidden=hidden, allowed=allowed)
