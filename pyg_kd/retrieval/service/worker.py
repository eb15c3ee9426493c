"""One process of the service."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
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
from pyg_kd.retrieval.service.logs import log_lines, tell, tell_failed_start
from pyg_kd.retrieval.service.metrics import Metrics
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.protocol import protocol_of
from pyg_kd.retrieval.service.put_off import put_off
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.service import Service
from pyg_kd.retrieval.service.source import Source

#: Seconds for which a worker that was told to stop goes on with the connections that it has, and
#: tells every client to close: a request that was on its way arrives in them.
DRAIN = 0.3

#: Seconds for which it still takes connections: a supervisor that stops as well, to which somebody
#: may have sent the signal at the same time, puts off its sockets in them.
NOTICE = 0.2

#: Most connections that a worker takes at the end; its successor has the others.
LAST = 4096


class Told(msgspec.Struct, kw_only=True):
    """What the supervisor tells a worker."""

    bundle: str
    events: str
    token: str | None
    local: bool
    host: str
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
    try:
        app = _application(options)
    except Exception as error:
        tell_failed_start(error)
        sys.exit(1)
    _Server(app, options).run(sockets=[socket.socket(fileno=options.listener)])


def _application(options: Told) -> App:
    board = Board(options.workers, options.worker, options.board)
    source = Source(options.bundle, Path(options.events), options.backend)
    service = Service(source, EventLog(options.events), options.limits, Metrics(board))
    teacher = None if options.teacher is None else load_student(Path(options.teacher))
    return App(
        service,
        token=options.token,
        local=options.local,
        host=options.host,
        teacher=teacher,
        titles=dict(options.titles),
        others=lambda: os.kill(options.supervisor, signal.SIGHUP),
    )


class _Server(uvicorn.Server):
    """Stops in two steps, reloads on a signal, and ends when its supervisor has."""

    def __init__(self, app: App, told: Told) -> None:
        limits = told.limits
        self._protocol_class = protocol_of(limits, app.service.metrics)
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
        """Take no more connections, but those that the kernel has accepted; then stop.

        The socket is the supervisor's. Where it ends with the service, nothing comes after the ones
        that are taken here. Where only this worker ends, the others wait for its successor.
        """
        loop = asyncio.get_running_loop()
        await asyncio.sleep(NOTICE)
        for server in self.servers:
            server.close()
        last = [accepted for listener in self._listeners for accepted in _waiting(listener)]
        for accepted in last:
            await loop.connect_accepted_socket(self._protocol, accepted)
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
        for listener in self._listeners:
            put_off(listener)  # nobody else will
        self._begin_to_stop()


def _waiting(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait at a socket, which is closed."""
    listener.setblocking(False)
    found: list[socket.socket] = []
    with listener, suppress(OSError):  # of no more connections, or of no more handles
        while len(found) < LAST:
            found.append(listener.accept()[0])
    return found
