"""Holding a process to a few processors and threads while it is timed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from pyg_kd.checks import require_count

#: What limits the threads of OpenBLAS, MKL and OpenMP, if it is set before Python starts.
VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

#: The threads of this process, by number, on Linux.
TASKS = Path("/proc/self/task")


class Pinning(NamedTuple):
    """How a process is held.

    ``cpus`` are the processors it may use, :obj:`None` where the system has no affinity. ``blas``
    tells what limits the threads of matrix products: ``"threadpoolctl"``, the ``"environment"``,
    or ``"nothing"``.
    """

    threads: int
    cpus: tuple[int, ...] | None
    blas: str


@contextmanager
def pinned(threads: int = 1, cpus: Sequence[int] | None = None) -> Iterator[Pinning]:
    r"""Hold the process to some processors and as many threads, and let go at the end.

    All threads of the process are held, those that a library keeps for matrix products too. How
    many of those work is limited by threadpoolctl, if it is installed. Otherwise set
    ``OPENBLAS_NUM_THREADS``, ``MKL_NUM_THREADS`` or ``OMP_NUM_THREADS`` before Python starts.

    Args:
        threads: Number of threads.
        cpus: The processors, ``threads`` of them. By default the last ones that the process may
            use; the first ones often have the interrupts of devices to serve.

    Raises:
        ValueError: If there are fewer processors than threads, or the process may not use one.

    Example:
        >>> with pinned(1) as pinning:
        ...     pinning.threads
        1
    """
    require_count(threads=threads)
    chosen = _choose(threads, cpus)
    with ExitStack() as stack:
        blas = _limit_blas(threads, stack)
        if chosen is not None:
            stack.enter_context(_affinity(chosen))
        yield Pinning(threads, None if chosen is None else tuple(sorted(chosen)), blas)


@contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection inside, after one that is not timed."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _choose(threads: int, cpus: Sequence[int] | None) -> set[int] | None:
    if not hasattr(os, "sched_getaffinity"):
        count = os.cpu_count() or 1
        if threads > count:
            raise ValueError(f"'threads' must be at most {count}, the processors (got {threads})")
        return None
    usable = sorted(os.sched_getaffinity(0))
    if threads > len(usable):
        raise ValueError(f"'threads' must be at most {len(usable)}, the processors (got {threads})")
    chosen = set(usable[-threads:] if cpus is None else cpus)
    if len(chosen) != threads or not chosen <= set(usable):
        raise ValueError(f"'cpus' must be {threads} out of {usable} (got {cpus})")
    return chosen


def _limit_blas(threads: int, stack: ExitStack) -> str:
    try:
        threadpoolctl = import_module("threadpoolctl")
    except ImportError:
        given = {os.environ[name] for name in VARIABLES if name in os.environ}
        return "environment" if given == {str(threads)} else "nothing"
    limits = threadpoolctl.threadpool_limits(limits=threads)
    stack.callback(limits.restore_original_limits)
    return "threadpoolctl"


@contextmanager
def _affinity(cpus: set[int]) -> Iterator[None]:
    """Hold every thread to some processors. A thread that starts inside inherits that."""
    before = {task: found for task in _tasks() if (found := _get(task)) is not None}
    own = os.sched_getaffinity(0)
    try:
        for task in before:
            _set(task, cpus)
        yield
    finally:
        for task in _tasks():
            _set(task, before.get(task, own))


def _tasks() -> list[int]:
    """The threads of this process; 0, the calling one, where they are not listed."""
    with suppress(OSError):
        return [int(path.name) for path in TASKS.iterdir()]
    return [0]


def _get(task: int) -> set[int] | None:
    with suppress(ProcessLookupError):  # it ended since it was listed
        return os.sched_getaffinity(task)
    return None


def _set(task: int, cpus: set[int]) -> None:
    with suppress(ProcessLookupError):
        os.sched_setaffinity(task, cpus)
