"""One process of the service."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import struct
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import uvicorn

from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.service.app import App
from pyg_kd.retrieval.service.board import Board
from pyg_kd.retrieval.service.event_log import EventLog
from pyg_kd.retrieval.service.logs import log_lines, tell
from pyg_kd.retrieval.service.metrics import Metrics
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.protocol import protocol_of
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.service import Service
from pyg_kd.retrieval.service.source import Source

#: Seconds for which a worker that was told to stop goes on with the connections that it has, and
#: tells every client to close: a request that was on its way arrives in them.
DRAIN = 0.3

#: Of Linux; Python has no name for it.
SO_ATTACH_FILTER = 26


class Told(msgspec.Struct, kw_only=True):
    """What the supervisor tells a worker."""

    bundle: str
    events: str
    token: str | None
    local: bool
    limits: Limits
    backend: str
    teacher: str | None
    titles: list[tuple[int | str, str]]
    level: str
    workers: int
    worker: int
    listener: int
    board: int
    supervisor: int


def run(told: dict[str, Any]) -> None:
    """Serve until a signal says to stop, or the supervisor is gone.

    Args:
        told: The fields of :class:`Told`.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    options = msgspec.convert(told, Told)
    log_lines(options.level)
    board = Board(options.workers, options.worker, options.board)
    source = Source(options.bundle, Path(options.events), options.backend)
    service = Service(source, EventLog(options.events), options.limits, Metrics(board))
    teacher = None if options.teacher is None else load_student(Path(options.teacher))
    app = App(
        service,
        token=options.token,
        local=options.local,
        teacher=teacher,
        titles=dict(options.titles),
        others=lambda: os.kill(options.supervisor, signal.SIGHUP),
    )
    _Server(app, options).run(sockets=[socket.socket(fileno=options.listener)])


class _Server(uvicorn.Server):
    """Stops in two steps, reloads on a signal, and ends when its supervisor has."""

    def __init__(self, app: App, told: Told) -> None:
        limits = told.limits
        self._protocol_class = protocol_of(limits)
        super().__init__(
            uvicorn.Config(
                app,
                http=self._protocol_class,
                loop="uvloop",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=max(1, round(limits.idle_seconds)),
                timeout_graceful_shutdown=max(1, round(limits.stop_seconds)),
            )
        )
        self._service, self._supervisor = app.service, told.supervisor

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load, listen, and mind the signals."""
        self._listeners = [listener.dup() for listener in sockets or ()]
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: self._start(self._reload()))
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._watch())
        gc.collect()
        gc.freeze()  # what stays is not looked through again

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. The supervisor hears of an interrupt too, and says when."""
        if sig != signal.SIGINT and not self._service.stopping:
            asyncio.get_running_loop().call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        if not self._service.stopping:
            self._service.stopping = True
            tell("stopping")
            self._start(self._close())

    async def _close(self) -> None:
        """Take no more connections, but those that the kernel has accepted; then stop."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            put_off(listener)
        for server in self.servers:
            server.close()
        for listener in self._listeners:
            listener.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    accepted, _ = listener.accept()
                    await loop.connect_accepted_socket(self._protocol, accepted)
            listener.close()
        await asyncio.sleep(DRAIN)
        self.should_exit = True

    def _protocol(self) -> asyncio.Protocol:
        return self._protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        with suppress(Refused):  # which is logged already
            await self._service.reload()

    async def _watch(self) -> None:
        while os.getppid() == self._supervisor:
            await asyncio.sleep(0.5)
        self._begin_to_stop()


def put_off(listener: socket.socket) -> None:
    """Let the kernel accept nothing more for a listening socket, but keep what it has accepted.

    A client that connects is not heard, tries again a second later, and is refused then. Without
    this, whoever came between the last look and the closing of the socket would be reset.
    """
    if sys.platform != "linux":
        return
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HP", 1, ctypes.addressof(nothing))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
