"""A service's own state: the bundle that it serves, and the threads that work for it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.service.batching import Batcher
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.ranking import Result, recommend
from pyg_kd.retrieval.service.requests import Recommend
from pyg_kd.retrieval.service.served import Served


class Service:
    r"""Answers requests from one bundle at a time.

    Args:
        bundle: The folder of a bundle, or an index.
        limits: What is allowed.
    """

    def __init__(self, bundle: str | os.PathLike[str] | TopKIndex, limits: Limits) -> None:
        self.bundle, self.limits = bundle, limits
        self.stopping = False
        self.served: Served | None = None

    async def start(self) -> None:
        """Load the bundle, and start to answer."""
        assert isinstance(self.bundle, TopKIndex)
        self.served = Served(self.bundle)
        self.ranking: Batcher[Recommend, bytes] = Batcher(
            self._rank,
            max_batch=self.limits.batch,
            max_waiting=self.limits.waiting,
            name="ranking",
        )

    async def stop(self) -> None:
        """Finish what was begun."""
        self.ranking.close()

    def _rank(self, asked: list[Recommend]) -> Sequence[Result]:
        assert self.served is not None
        return recommend(self.served, asked)
