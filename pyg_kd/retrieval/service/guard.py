"""What stands before every route: who may ask, how many at once, and what failures look like."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import time
from collections.abc import Callable, Iterable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyg_kd.retrieval.service.logs import places_of, tell
from pyg_kd.retrieval.service.metrics import Metrics
from pyg_kd.retrieval.service.refused import Refused

#: Answered however many requests are open: whoever probes would take a busy service for a dead one.
PROBES = frozenset({"/health", "/ready"})

#: Answered without a token: probes, and the page (its files are below ``/page/``), which asks for
#: the token itself.
PUBLIC = PROBES | {"/"}


class Guard:
    r"""Wraps an application.

    Args:
        app: What is guarded.
        token: The bearer token that clients must send; ``None`` if none is needed.
        local: Whether requests must be addressed to this machine by its own names: ``localhost``,
            its loopback addresses, and ``host``. A page of another site whose name was made to
            point here has the wrong one.
        host: A further name of this machine.
        most: Most requests at the same time.
        stopping: Whether the service is about to stop, so that connections are closed.
        metrics: Where requests are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        local: bool,
        host: str | None = None,
        most: int,
        stopping: Callable[[], bool],
        metrics: Metrics,
    ) -> None:
        self.app, self.most, self.local = app, most, local
        self._names = {"localhost", "127.0.0.1", "::1", *(() if host is None else (host.lower(),))}
        self._token = None if token is None else token.encode()
        self._stopping, self._metrics = stopping, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def respond(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(message["headers"])]
            await send(message)

        self._metrics.open += 1
        try:
            await self._ask(scope, receive, respond)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            tell("failed", logging.ERROR, **places_of(error))
            if status == 0:
                failed = Refused(500, "the service failed to answer").response()
                await failed(scope, receive, respond)
        finally:
            self._metrics.open -= 1
            self._metrics.request(scope["path"], status, time.perf_counter() - start)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope)
            await self.app(scope, receive, send)
        except Refused as refused:
            await refused.response()(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        if self._metrics.open > self.most and scope["path"] not in PROBES:
            raise Refused(503, "the service is busy")
        headers = dict(scope["headers"])
        if self.local and not self._is_own(_name(headers.get(b"host", b""))):
            raise Refused(400, "a service without a token is called by a name of its own machine")
        if self._token is None or _is_public(scope["path"]):
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # The time of the comparison does not tell how much of a token was right.
        if not hmac.compare_digest(token, self._token) or scheme.lower() != b"bearer":
            raise Refused(401, "a valid bearer token is needed")

    def _is_own(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        name = b"x-content-type-options"
        headers = [] if any(key.lower() == name for key, _ in given) else [(name, b"nosniff")]
        return [*headers, (b"connection", b"close")] if self._stopping() else headers


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith("/page/")


def _name(host: bytes) -> str:
    """The name in a ``Host`` header, without the port."""
    text = host.decode("latin-1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
