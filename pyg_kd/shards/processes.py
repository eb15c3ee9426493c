"""The parts of a job, made by this process or by several of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from pyg_kd.launchers import end_with_launcher
from pyg_kd.shards.folder import Folder
from pyg_kd.shards.parts import Part, Report


def run_here(place: Folder, parts: Sequence[Part], report: Report) -> None:
    """Make parts in this process, one after the other."""
    with place.job.working():
        for part in parts:
            place.make(part, report)


def run_processes(place: Folder, parts: Sequence[Part], workers: int, report: Report) -> None:
    r"""Make parts in processes that end when this one does.

    With one thread each they are forked on Linux, and so share the job's memory.

    Raises:
        RuntimeError: If one ends before its work is done; the others are ended, too.
    """
    # OpenMP hangs in a forked process if it had threads before and takes some again; outside of
    # Linux libraries of the system do not survive it either.
    forked = sys.platform == "linux" and place.job.threads == 1
    context: Any = multiprocessing.get_context("fork" if forked else "spawn")
    running: dict[Any, Any] = {}
    try:
        for number in range(workers):
            reader, writer = context.Pipe(duplex=False)
            own = parts[number::workers]
            process = context.Process(target=_work, args=(place, own, writer), daemon=True)
            process.start()
            writer.close()
            running[reader] = process
        while running:
            for reader in wait(list(running)):
                if not _heard(reader, report):
                    _check_end(running.pop(reader))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()


def _heard(reader: Any, report: Report) -> bool:
    """Pass on what a worker reports; whether it goes on."""
    try:
        message = reader.recv()
    except EOFError:
        return False
    if isinstance(message, BaseException):
        raise message
    if isinstance(message, str):
        raise RuntimeError(f"a worker failed: {message}")
    report(message)
    return True


def _check_end(process: Any) -> None:
    process.join()
    code = process.exitcode
    if code:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        raise RuntimeError(
            f"a worker was ended {how} before its work was done: is there enough memory? Parts "
            "that are done stay, the same call goes on with the others"
        )


def _work(place: Folder, parts: Sequence[Part], writer: Connection) -> None:
    """What a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_launcher()
    try:
        run_here(place, parts, writer.send)
    except Exception as error:
        writer.send(_portable(error))
        os._exit(1)


def _portable(error: Exception) -> Any:
    """An error of the usual kinds as it is, else in words."""
    plain = type(error) in (ValueError, TypeError, OSError, MemoryError)
    return type(error)(*error.args) if plain else f"{type(error).__name__}: {error}"
