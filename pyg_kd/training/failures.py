"""Processes of a run fail together, and the first of them says why."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from torch import distributed

#: Seconds in which all processes come to an error that they have in common.
PATIENCE = 5.0

#: Seconds between two looks at something.
PAUSE = 0.1

#: The process that a child of this one has to end with, as the environment of the child says.
LAUNCHER = "PYG_KD_LAUNCHER"


def end_with_launcher() -> None:
    """End this process when the one that launched it has ended, however that was.

    A process has been launched if it was given a number: by the first process of a run, which is
    named in the environment, or by ``torchrun``.
    """
    by_first, launcher = int(os.environ.get("LOCAL_RANK", "0")) > 0, os.getppid()
    if by_first and LAUNCHER in os.environ:
        launcher = int(os.environ[LAUNCHER])
    elif not by_first and "TORCHELASTIC_RUN_ID" not in os.environ:
        os.environ[LAUNCHER] = str(os.getpid())  # those launched from here read it
        return
    if not any(thread.name == LAUNCHER for thread in threading.enumerate()):
        watch = threading.Thread(target=_follow, args=(launcher,), name=LAUNCHER, daemon=True)
        watch.start()


def _follow(launcher: int) -> None:
    while os.getppid() == launcher:
        if Failures.running is not None and Failures.running.left_behind:
            break
        time.sleep(5 * PAUSE)
    os._exit(1)


def wait_for_children(children: Sequence[subprocess.Popen[Any]]) -> None:
    """Let processes that were launched from here come to an end before this one ends."""
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(2 * PATIENCE)


@contextmanager
def failing_together(rank: int, world_size: int) -> Iterator[None]:
    r"""An error of one process inside ends the run of all, with one message.

    An error that all processes come to is raised in all of them, and they can go on; only the first
    prints it, if nobody catches it. After an error of some the processes have parted: the first
    raises it, or a ``RuntimeError`` with the traceback of another, and the others end.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
    """
    if world_size == 1 or not distributed.is_initialized():
        yield
        return
    failures = Failures.running = Failures(rank, world_size)
    try:
        yield
    except BaseException as error:
        told = failures.tell(error)
        if told is error:
            raise
        raise told from None
    finally:
        Failures.running = None


class Failures:
    """What the processes of a run tell each other of errors.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
    """

    #: Those of the run that goes on.
    running: Failures | None = None

    #: Runs since the processes were launched.
    num_runs = 0

    def __init__(self, rank: int, world_size: int) -> None:
        # Read and written by all, without their taking turns. Kept by the first process.
        self.store: Any = distributed.distributed_c10d._get_default_store()
        self.rank, self.world_size = rank, world_size
        self.prefix = f"pyg_kd run {Failures.num_runs} "
        Failures.num_runs += 1

    def tell(self, error: BaseException) -> BaseException:
        """Tell the others of an error, or find out that it comes from theirs; what to raise."""
        if _is_of_exchange(error):
            return RuntimeError(self.of_others()) if self.rank == 0 else SystemExit(0)
        self.say(f"error {self.rank}", "".join(traceback.format_exception(error)))
        if self.all_failed():
            return error if self.rank == 0 else _quiet(error)
        if self.rank == 0:
            self.say("parted")
            return error
        # Not as a failure: launchers would kill the first process before it has reported this one.
        return SystemExit(0)

    @property
    def left_behind(self) -> bool:
        """Whether the first process has failed, and may go on alone, while this one waits."""
        return self.rank > 0 and self.heard("parted") is not None

    def of_others(self) -> str:
        """What another process has failed of."""
        for rank in range(1, self.world_size):
            text = self.heard(f"error {rank}")
            if text is not None:
                return f"process {rank} of {self.world_size} has failed:\n\n{text}"
        return (
            f"one of {self.world_size} processes has ended without a word: was it killed, for want "
            "of memory?"
        )

    def all_failed(self) -> bool:
        """Whether all processes have an error before patience ends."""
        end = time.monotonic() + PATIENCE
        while any(self.heard(f"error {rank}") is None for rank in range(self.world_size)):
            if time.monotonic() > end:
                return False
            time.sleep(PAUSE)
        return True

    def say(self, what: str, text: str = "") -> None:
        """Let the others know."""
        with suppress(RuntimeError):  # the first process, which keeps the store, may be gone
            self.store.set(self.prefix + what, text or what)

    def heard(self, what: str) -> str | None:
        """What has been said of this, if anything."""
        with suppress(RuntimeError):
            if self.store.check([self.prefix + what]):
                return str(self.store.get(self.prefix + what).decode())
        return None


def _quiet(error: BaseException) -> BaseException:
    """An error that the first process prints."""
    print_other = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if value is not error:
            print_other(kind, value, trace)

    sys.excepthook = hook
    return error


def _is_of_exchange(error: BaseException) -> bool:
    """Whether an error is that another process doesn't answer."""
    words = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    lost = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    return lost or isinstance(error, distributed.DistError)
