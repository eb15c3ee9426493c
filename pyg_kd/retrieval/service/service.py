"""A service's own state: the bundle that it serves, and the threads that work for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from pyg_kd.retrieval.service.answers import Refusal
from pyg_kd.retrieval.service.batching import Batcher
from pyg_kd.retrieval.service.event_log import EventLog, NotALog, Record
from pyg_kd.retrieval.service.logs import places_of, tell
from pyg_kd.retrieval.service.metrics import Metrics
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.ranking import Result, recommend
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.requests import Recommend
from pyg_kd.retrieval.service.served import Served
from pyg_kd.retrieval.service.source import FIRST_RETRY, LAST_RETRY, Source

#: Seconds between two looks at the folder of the bundle.
TICK = 0.5

#: Most records that are written to the log at once.
MAX_RECORDS = 1024


class Service:
    r"""Answers requests from one bundle at a time.

    Args:
        source: Where bundles come from, or the one to serve for good.
        log: Where events are written; without one, they are refused.
        limits: What is allowed.
        metrics: Where work is counted.
    """

    def __init__(
        self, source: Source | Served, log: EventLog | None, limits: Limits, metrics: Metrics
    ) -> None:
        self.source, self.log, self.limits, self.metrics = source, log, limits, metrics
        self.stopping = False
        self.refused: Refusal | None = None
        self._retry, self._retry_at = FIRST_RETRY, 0.0
        self._trouble: dict[str, dict[str, Any]] = {}

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return hasattr(self, "served") and not self.stopping

    async def start(self) -> None:
        """Load the bundle, and start to answer."""
        source = self.source
        loaded = await asyncio.to_thread(source.load) if isinstance(source, Source) else source
        self.ranking: Batcher[Recommend | None, bytes] = Batcher(
            self._rank,
            max_batch=self.limits.batch,
            max_waiting=self.limits.waiting,
            name="ranking",
        )
        self.writing: Batcher[Record, None] = Batcher(
            self._write, max_batch=MAX_RECORDS, max_waiting=MAX_RECORDS, name="writing"
        )
        self._reloading = asyncio.Lock()
        self._serve(loaded)
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Finish what was begun."""
        self.stopping = True
        self._ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticking
        await asyncio.to_thread(self.ranking.close)
        await asyncio.to_thread(self.writing.close)

    async def note(self, record: Record) -> None:
        r"""Write a record to the log, which all bundles and all workers follow.

        Raises:
            Refused: With status 503 if it can't be written, or 409 if there is no log.
        """
        if self.log is None:
            raise Refused(409, "this service keeps no log of events")
        try:
            await self.writing.submit(record)
        except OSError as error:
            tell("log not written", logging.ERROR, error=error.strerror)
            raise Refused(503, "events can't be written at the moment") from None
        except NotALog as error:
            tell("log not written", logging.ERROR, error=str(error))
            reason = "events can't be written: another file has the name of their log"
            raise Refused(503, reason) from None

    async def follow(self) -> None:
        r"""Take in all that was noted until now, as every list does.

        Raises:
            Refused: With status 503 if too much waits already.
        """
        await self.ranking.submit(None)

    async def reload(self, *, force: bool = True) -> bool:
        r"""Serve the bundle that is in the folder now; requests meanwhile get the one before.

        Args:
            force: Try a bundle again that was refused.

        Returns:
            Whether it is another one.

        Raises:
            Refused: With status 409 if it is refused, with the reason; the old one serves on.
        """
        source = self.source
        if not isinstance(source, Source):
            raise Refused(409, "this service has an index, not a bundle")
        async with self._reloading:
            if not force and time.monotonic() < self._retry_at:
                return False
            try:
                found = await asyncio.to_thread(self._load_other, source)
            except Exception as error:
                self._refuse(error)
                raise Refused(409, f"the bundle was refused: {error}") from None
            self.refused, self._retry, self._retry_at = None, FIRST_RETRY, 0.0
            if found is not None:
                self._serve(found)
                self.metrics.board.own("swaps")[:] += 1
            return found is not None

    def _load_other(self, source: Source) -> Served | None:
        same = source.look() == self.served.digest and not self.served.moved
        return None if same else source.load()

    def _serve(self, served: Served) -> None:
        self.served = served  # at once: a batch reads it when it begins
        board = self.metrics.board
        self._count(served.followed, served.damaged)
        board.serve(served.digest)
        board.own("beat")[:] = int(time.monotonic())
        board.own("ready")[:] = 1
        tell("serving", bundle=served.digest, users=served.index.num_users, log=served.followed)

    def _refuse(self, error: Exception) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.refused = Refusal(str(error), now)
        self._retry_at = time.monotonic() + self._retry
        self._retry = min(2 * self._retry, LAST_RETRY)
        self.metrics.board.own("refused")[:] += 1
        tell("bundle refused", logging.ERROR, reason=str(error), serving=self.served.digest)

    async def _tick(self) -> None:
        """Follow the log when nobody asks, and look for another bundle."""
        while True:
            await asyncio.sleep(TICK)
            await self._begin_log()
            with contextlib.suppress(Refused):
                await self.follow()
            if self._is_replaced() and not self._reloading.locked():
                self._loading = asyncio.create_task(self._reload_if_due())

    async def _begin_log(self) -> None:
        """Begin a new log where the one that is followed was moved away."""
        tail = self.served.tail
        trouble: dict[str, Any] = {}
        if self.log is not None and tail is not None and tail.replaced():
            try:
                await asyncio.to_thread(self.log.append, [])
            except (OSError, NotALog) as error:
                trouble = {"error": str(error)}
        self._tell_once("log not begun", trouble)

    async def _reload_if_due(self) -> None:
        with contextlib.suppress(Refused):  # which is logged already
            await self.reload(force=False)

    def _is_replaced(self) -> bool:
        if not isinstance(self.source, Source):
            return False
        return self.served.moved or self.refused is not None or self.source.replaced()

    def _rank(self, asked: list[Recommend | None]) -> Sequence[Result]:
        start, served = time.perf_counter(), self.served
        self._follow(served)
        self.metrics.board.own("waiting")[:] = len(self.ranking)
        self.metrics.board.own("beat")[:] = int(time.monotonic())
        asks = [ask for ask in asked if ask is not None]
        results = iter(recommend(served, asks))
        if asks:
            self.metrics.batch(len(asks), time.perf_counter() - start)
        return [b"" if ask is None else next(results) for ask in asked]

    def _follow(self, served: Served) -> None:
        followed, damaged = served.followed, served.damaged
        trouble: dict[str, Any] = {}
        try:
            served.follow()
        except Exception as error:  # lists are worth more than the last click
            trouble = places_of(error)
        self._tell_once("log not followed", trouble)
        self._count(served.followed - followed, served.damaged - damaged)

    def _tell_once(self, event: str, trouble: dict[str, Any]) -> None:
        """Log a trouble that may last for many requests when it begins or changes."""
        if trouble and trouble != self._trouble.get(event):
            tell(event, logging.ERROR, **trouble)
        self._trouble[event] = trouble

    def _count(self, followed: int, damaged: int) -> None:
        board = self.metrics.board
        board.own("followed")[:] += followed
        board.own("damaged")[:] += damaged
        if damaged:
            tell("damaged records passed over", logging.ERROR, records=damaged)

    def _write(self, records: list[Record]) -> list[None]:
        assert self.log is not None  # nothing is submitted otherwise
        self.log.append(records)
        return [None] * len(records)
