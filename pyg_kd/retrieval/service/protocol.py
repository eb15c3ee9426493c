"""HTTP over one connection, with limits that uvicorn leaves to a proxy."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pyg_kd.retrieval.service.answers import Trouble, encode
from pyg_kd.retrieval.service.options import Limits


def protocol_of(limits: Limits) -> type[HttpToolsProtocol]:
    """A protocol class with limits on the size and the time of a head, and of what follows."""
    return type("LimitedProtocol", (_Limited,), {"limits": limits})


class _Limited(HttpToolsProtocol):
    """Refuses heads that are too long or too slow, in the shape of all refusals.

    Where a request was answered before all of its body came, the rest is read and thrown away for a
    while, since closing at once could reset the connection under the answer.
    """

    limits: Limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a head."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._size = 0
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._clear()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Read, and count bytes while a head is not complete."""
        super().data_received(data)
        if self._timer is not None and not self.transport.is_closing():
            self._size += len(data)
            if self._size > self.limits.head_bytes:
                self._refuse(431, f"a head must have at most {self.limits.head_bytes} bytes")

    def on_message_begin(self) -> None:
        """Expect the rest of a head that began."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there too."""
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
        """Refuse what is not HTTP."""
        self._refuse(400, msg)

    def _expect_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._size = 0
        self._timer = self.loop.call_later(self.limits.read_seconds, self._too_slow)

    def _too_slow(self) -> None:
        seconds = self.limits.read_seconds
        self._refuse(408, f"a head must come within {seconds:g} seconds")

    def _refuse(self, status: int, error: str) -> None:
        """Answer without an application, unless another answer is under way, and close."""
        self._clear()
        if self.transport.is_closing():
            return
        if self._may_answer():
            body = encode(Trouble(error))
            lines = [
                STATUS_LINE[status].rstrip(),
                b"content-type: application/json",
                b"content-length: %d" % len(body),
                b"connection: close",
            ]
            self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()

    def _may_answer(self) -> bool:
        """Whether no other answer comes first: that of the request whose body is being read."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return cycle.more_body and not cycle.response_started and not self.pipeline

    def _clear(self) -> None:
        for timer in (self._timer, self._rest):
            if timer is not None:
                timer.cancel()
        self._timer = self._rest = None
