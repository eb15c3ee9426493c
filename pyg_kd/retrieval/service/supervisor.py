"""Keeps the workers of a service running: starts them, replaces them, passes signals on."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from pyg_kd.retrieval.service.board import PLACES, Board, board_bytes
from pyg_kd.retrieval.service.logs import tell
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.put_off import put_off

#: What a worker runs. It hears what to do on its standard input, where no other user can read it.
PROGRAM = """\
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor hears of it too
told = json.load(sys.stdin)
sys.path[:] = told.pop("path")
from pyg_kd.retrieval.service.worker import run
run(told)
"""

#: Seconds before a worker that died is replaced if it had lived for less than ``LIFE``, and the
#: most that they double to.
FIRST_DELAY, LAST_DELAY, LIFE = 0.1, 10.0, 10.0

#: Seconds after which a worker that does not stop is killed, beyond those it may take.
MERCY = 5.0

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass
class Worker:
    """A place for a process."""

    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay: float = FIRST_DELAY
    due: float = 0.0  # when to start


class Supervisor:
    r"""Runs workers until a signal says to stop.

    Every worker has a listening socket of its own, between which the kernel shares out connections.
    The supervisor keeps them open, so that connections to a worker that dies wait for the next one.

    Args:
        listeners: A listening socket for each worker.
        told: What all workers are told.
        limits: How long workers may take to stop, and may hang.
    """

    def __init__(
        self, listeners: list[socket.socket], told: dict[str, Any], limits: Limits
    ) -> None:
        self.workers = [Worker(listener) for listener in listeners]
        self._told, self._limits = told, limits
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.truncate(board_bytes(len(listeners)))
        self.board = Board(len(listeners), 0, self._file.fileno())
        self._caught: list[int] = []
        self._was_ready = False

    def run(self) -> None:
        r"""Serve until told to stop.

        Raises:
            RuntimeError: If a worker fails before any was ready.
        """
        with self._signals() as wake:
            try:
                while not {signal.SIGTERM, signal.SIGINT} & {*self._caught}:
                    self._start_due()
                    self._tell_ready()
                    select.select([wake], [], [], 0.2)
                    _drain(wake)
                    self._pass_on()
                    self._end_hung()
                    self._bury()
            finally:
                self._stop(wake)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number, worker in enumerate(self.workers):
            if worker.process is None and worker.due <= now:
                worker.process, worker.started = self._spawn(number, worker), now

    def _spawn(self, number: int, worker: Worker) -> subprocess.Popen[bytes]:
        handles = (worker.listener.fileno(), self._file.fileno())
        told = {
            **self._told,
            "path": sys.path,
            "workers": len(self.workers),
            "worker": number,
            "listener": handles[0],
            "board": handles[1],
            "supervisor": os.getpid(),
        }
        # Requests are ranked together instead of by several threads each.
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            pass_fds=handles,
            env=environment,
        )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(told).encode())
            process.stdin.close()
        except BrokenPipeError:  # it died at once, and is buried soon
            pass
        tell("worker started", worker=number, pid=process.pid)
        return process

    def _tell_ready(self) -> None:
        if not self._was_ready and int(self.board.total("ready")[0]) == len(self.workers):
            self._was_ready = True
            tell("ready", workers=len(self.workers))

    def _pass_on(self) -> None:
        if signal.SIGHUP in self._caught:
            self._caught = [number for number in self._caught if number != signal.SIGHUP]
            for number, worker in enumerate(self.workers):
                # One that starts loads what is there now, and would die of the signal.
                if worker.process is not None and self.board.rows[number, PLACES["ready"]].any():
                    worker.process.send_signal(signal.SIGHUP)

    def _end_hung(self) -> None:
        """Kill workers whose threads have not gone on for too long."""
        late = time.monotonic() - self._limits.hang_seconds
        for number, worker in enumerate(self.workers):
            row = self.board.rows[number]
            hangs = row[PLACES["ready"]].any() and row[PLACES["beat"]][0] < late
            if hangs and worker.process is not None and worker.process.poll() is None:
                tell("worker hangs", logging.ERROR, worker=number, pid=worker.process.pid)
                worker.process.kill()
                worker.process.wait()

    def _bury(self) -> None:
        """Notice workers that died, and plan the next ones."""
        now = time.monotonic()
        for number, worker in enumerate(self.workers):
            if worker.process is None or (code := worker.process.poll()) is None:
                continue
            tell("worker died", logging.ERROR, worker=number, pid=worker.process.pid, code=code)
            if code > 0 and not self.board.total("ready")[0] and not self._was_ready:
                raise RuntimeError("a worker of the service could not start; the log says why")
            self.board.forget_states(number)
            if now - worker.started > LIFE:
                worker.delay = FIRST_DELAY
            worker.process, worker.due = None, now + worker.delay
            worker.delay = min(2 * worker.delay, LAST_DELAY)

    def _stop(self, wake: socket.socket) -> None:
        for place in self.workers:
            put_off(place.listener)
            place.listener.close()  # first, so that workers have the last ones
        for worker in self._running():
            worker.terminate()
        late = time.monotonic() + self._limits.stop_seconds + MERCY
        self._caught = [number for number in self._caught if number == signal.SIGCHLD]
        while (left := self._running()) and time.monotonic() < late:
            select.select([wake], [], [], 0.2)
            _drain(wake)
            if {signal.SIGTERM, signal.SIGINT} & {*self._caught}:  # said again
                break
        for worker in left:
            worker.kill()
            worker.wait()
        self._file.close()
        tell("stopped")

    def _running(self) -> list[subprocess.Popen[bytes]]:
        found = [worker.process for worker in self.workers if worker.process is not None]
        return [process for process in found if process.poll() is None]

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Note signals, each of which wakes the socket."""
        wake, write = socket.socketpair()
        wake.setblocking(False)
        write.setblocking(False)
        before = {number: signal.signal(number, self._catch) for number in SIGNALS}
        handle = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        try:
            yield wake
        finally:
            signal.set_wakeup_fd(handle)
            for number, handler in before.items():
                signal.signal(number, handler)
            wake.close()
            write.close()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught.append(number)


def _drain(wake: socket.socket) -> None:
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        pass
