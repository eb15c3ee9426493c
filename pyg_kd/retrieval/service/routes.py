"""The routes of the service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pyg_kd.retrieval.service.answers import Health, Noted, Ready, Reloaded, encode
from pyg_kd.retrieval.service.body import read_json
from pyg_kd.retrieval.service.event_log import Click, Named, Stock
from pyg_kd.retrieval.service.metrics import CONTENT_TYPE
from pyg_kd.retrieval.service.openapi import describe
from pyg_kd.retrieval.service.ranking import check_kind
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.requests import Event, Filter, Items, Recommend, T, read
from pyg_kd.retrieval.service.service import Service

#: Seconds that ``/reload`` waits for other workers.
PATIENCE = 10.0


class Routes:
    r"""Reads requests, hands them to the service, and writes its answers.

    Args:
        service: What answers.
        token: Whether clients need a token, for the description.
        others: Tells other workers to reload.
    """

    def __init__(self, service: Service, *, token: bool, others: Callable[[], None]) -> None:
        self.service, self._others = service, others
        self._token = token

    def all(self) -> list[Route]:
        """One route a path."""
        posts = (self.recommend, self.events, self.unavailable, self.available, self.filters)
        gets = (self.health, self.ready, self.metrics)
        return [
            *(Route(f"/{do.__name__}", do, methods=["POST"]) for do in (*posts, self.reload)),
            *(Route(f"/{do.__name__}", do, methods=["GET"]) for do in gets),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]

    async def recommend(self, request: Request) -> Response:
        """The list of one request."""
        ask = await self._read(request, Recommend)
        return _json(await self.service.ranking.submit(ask))

    async def events(self, request: Request) -> Response:
        """Note a click."""
        event = await self._read(request, Event)
        several = event.items is not UNSET
        check_kind([event.user], self.service.served.index.users, "user")
        listed = [*dict.fromkeys(event.clicked())]
        field = "items" if several else "item"
        if unknown := self._unknown(listed, field):
            raise Refused(422, f"{unknown[0]!r:.80} is no item of this bundle", field)
        await self.service.note(Click(event.user, listed, round(time.time(), 3)))
        return _json(encode(Noted(len(listed))))

    async def unavailable(self, request: Request) -> Response:
        """Take items out of stock."""
        return await self._stock(request, available=False)

    async def available(self, request: Request) -> Response:
        """Put items back in stock."""
        return await self._stock(request, available=True)

    async def filters(self, request: Request) -> Response:
        """Name a set of items."""
        told = await self._read(request, Filter)
        unknown = self._unknown(told.items, "items")
        await self.service.note(Named(told.name, told.items))
        return _json(encode(Noted(len(told.items), len(unknown))))

    async def reload(self, request: Request) -> Response:
        """Serve the bundle that is in the folder now."""
        changed = await self.service.reload()
        self._others()
        digest, board = self.service.served.digest, self.service.metrics.board
        late = time.monotonic() + PATIENCE
        while board.digests().count(digest) < len(board.rows) and time.monotonic() < late:
            await asyncio.sleep(0.02)
        workers = board.digests().count(digest)
        return _json(encode(Reloaded(bundle=digest, changed=changed, workers=workers)))

    async def health(self, request: Request) -> Response:
        """Whether the process runs."""
        return _json(encode(Health()))

    async def ready(self, request: Request) -> Response:
        """Whether requests should be sent here."""
        service = self.service
        index = service.served.index
        ready = service.ready and service.metrics.open <= service.limits.open
        answer = Ready(
            ready=ready,
            bundle=service.served.digest,
            num_users=index.num_users,
            num_items=index.num_items,
            refused=service.refused,
        )
        return _json(encode(answer), 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """The numbers of all workers."""
        return Response(self.service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        """The description of the service."""
        index = self.service.served.index
        return _json(describe(index.users.kind, index.items.kind, token=self._token))

    async def _stock(self, request: Request, *, available: bool) -> Response:
        told = await self._read(request, Items)
        unknown = self._unknown(told.items, "items")
        await self.service.note(Stock(told.items, available))
        return _json(encode(Noted(len(told.items), len(unknown))))

    def _unknown(self, items: list[int | str], field: str) -> list[int | str]:
        """The items that the bundle doesn't know; ids of another kind are refused."""
        known = self.service.served.index.items
        check_kind(items, known, field)
        return [items[place] for place in (known.find(items) < 0).nonzero()[0].tolist()]

    async def _read(self, request: Request, kind: type[T]) -> T:
        limits = self.service.limits
        most, seconds = limits.body_bytes, limits.read_seconds
        return read(await read_json(request, most=most, seconds=seconds), kind)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
