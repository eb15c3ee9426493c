"""HTTP over one connection, with limits that uvicorn leaves to a proxy."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pyg_kd.retrieval.service.answers import Trouble, encode
from pyg_kd.retrieval.service.metrics import Metrics
from pyg_kd.retrieval.service.options import Limits


def protocol_of(limits: Limits, metrics: Metrics) -> type[HttpToolsProtocol]:
    """A protocol class with limits on the size and the time of a head, and of what follows.

    Args:
        limits: What is allowed.
        metrics: Where refusals are counted that no application hears of.
    """
    return type("LimitedProtocol", (_Limited,), {"limits": limits, "metrics": metrics})


class _TooLong(Exception):
    """A head is."""


class _Limited(HttpToolsProtocol):
    """Refuses heads that are too long or too slow, in the shape of all refusals.

    Where a request was answered before all of its body came, the rest is read and thrown away for a
    while, since closing at once could reset the connection under the answer.
    """

    limits: Limits
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a head."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._in_body = False
        self._too_long = False
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._clear()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Read, and count bytes while a head is not complete."""
        most = self.limits.head_bytes
        for start in range(0, len(data), most):  # so that no more of a head is kept
            if self.transport.is_closing() or self._too_long:
                return
            self._read(data[start : start + most])

    def _read(self, data: bytes) -> None:
        begins_here, self._begun = not self._in_body, 0
        super().data_received(data)
        # Where a head is behind another one or a body, these bytes are not all its own. What it
        # says is counted when it is complete, whatever was left out here.
        if self._timer is not None and begins_here and self._begun < 2:
            self._size += len(data)
            if self._size > self.limits.head_bytes:
                self._refuse_size()

    def on_message_begin(self) -> None:
        """Expect the rest of a head that began."""
        super().on_message_begin()
        self._begun += 1
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        if _length(self.url, self.headers) > self.limits.head_bytes:
            self._too_long = True
            raise _TooLong  # which ends the parser, and comes out as a wrong request
        self._in_body = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there too."""
        self._in_body = False
        super().on_message_complete()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def on_response_complete(self) -> None:
        """Answered, maybe before the whole body came."""
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            self._rest = self.loop.call_later(self.limits.read_seconds, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or has too long a head."""
        if self._too_long:
            self._refuse_size()
        else:
            self._refuse(400, msg)

    def _refuse_size(self) -> None:
        self._too_long = True
        self._refuse(431, f"a head must have at most {self.limits.head_bytes} bytes")

    def _expect_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._size = 0
        self._timer = self.loop.call_later(self.limits.read_seconds, self._too_slow)

    def _too_slow(self) -> None:
        seconds = self.limits.read_seconds
        self._refuse(408, f"a head must come within {seconds:g} seconds")

    def _refuse(self, status: int, error: str) -> None:
        """Answer without an application and close; after other answers that are under way."""
        self._clear()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self.metrics.refusal(status)
        elif not cycle.more_body or cycle.response_started or self.pipeline:
            cycle.keep_alive = False  # the last one that can be answered
            return
        body = encode(Trouble(error))
        lines = [
            STATUS_LINE[status].rstrip(),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()

    def _clear(self) -> None:
        for timer in (self._timer, self._rest):
            if timer is not None:
                timer.cancel()
        self._timer = self._rest = None


def _length(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    """Bytes of the path and the headers of a head, with their separators."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
