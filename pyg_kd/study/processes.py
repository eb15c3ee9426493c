"""One process a run: whatever happens to it leaves the study alone, and its memory is its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from pyg_kd.launchers import end_with_launcher
from pyg_kd.study.worker import Job, work


class RunFailed(RuntimeError):
    """A run ended without a result."""


class Executor(Protocol):
    """Does jobs, called from several threads."""

    def __call__(self, job: Job) -> None:
        """Do a job; raise :class:`RunFailed` if it fails."""

    def close(self) -> None:
        """End what is still going on."""


class InProcess:
    """Does jobs one after the other in this process, for tests and debugging."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, job: Job) -> None:
        """Do a job."""
        with self.lock:
            try:
                work(job)
            except Exception as error:
                raise RunFailed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Nothing goes on."""


class Processes:
    r"""Does each job in a process of its own.

    The processes are forked from one that has imported the package already, where the system can
    do that. A process whose study is gone ends itself.
    """

    def __init__(self) -> None:
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context(
            "forkserver" if "forkserver" in methods else "spawn"
        )
        if "forkserver" in methods:
            self.context.set_forkserver_preload(["pyg_kd.study.worker"])
        self.lock = threading.Lock()
        self.running: set[BaseProcess] = set()
        self.closed = False

    def __call__(self, job: Job) -> None:
        """Do a job."""
        reader, writer = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_main, args=(job, writer), daemon=True)
        with self.lock:
            if self.closed:
                raise RunFailed("the study was stopped")
            process.start()
            self.running.add(process)
        writer.close()
        try:
            wait([process.sentinel])
            # Starting a process polls all others, and an exit code can be read only once: two
            # threads that read it together make 255 of it.
            with self.lock:
                process.join()
        finally:
            with self.lock:
                self.running.discard(process)
        if process.exitcode:
            raise RunFailed(_reason(reader, process.exitcode))

    def close(self) -> None:
        """End the processes that still run."""
        with self.lock:
            self.closed = True
            running = list(self.running)
        for process in running:
            process.terminate()


def _main(job: Job, writer: Connection) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study ends it
    end_with_launcher()
    try:
        work(job)
    except BaseException as error:
        writer.send(f"{type(error).__name__}: {error}")
        os._exit(1)


def _reason(reader: Connection, code: int) -> str:
    try:
        if reader.poll():
            return str(reader.recv())
    except EOFError:
        pass
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}: is there enough memory?"
    return f"its process ended with code {code}"
