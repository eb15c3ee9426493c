"""One BLAS thread for each of our own while blocks of queries are searched side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any


@cache
def _controller() -> Any | None:
    """What sets the number of BLAS threads; None without the package ``threadpoolctl``."""
    try:
        library = import_module("threadpoolctl")
    except ImportError:
        return None
    return library.ThreadpoolController().select(user_api="blas")


def usable_threads() -> int:
    """Threads that a search may use: no more than cores, nor than BLAS may use.

    1 where the threads of BLAS can't be counted, which then uses its own.
    """
    controller = _controller()
    if controller is None or not controller.lib_controllers:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = _single.before or max(lib.num_threads for lib in controller.lib_controllers)
    return min(cores or 1, wanted)


class _Single:
    """How many searches hold BLAS to one thread, and how many threads it had before."""

    def __init__(self) -> None:
        self.lock, self.holders = threading.Lock(), 0
        self.before, self.limiter = 0, None


_single = _Single()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """BLAS uses one thread until the last of those that asked for it is done."""
    controller = _controller()
    with _single.lock:
        if _single.holders == 0 and controller is not None:
            _single.before = usable_threads()
            _single.limiter = controller.limit(limits=1)
        _single.holders += 1
    try:
        yield
    finally:
        with _single.lock:
            _single.holders -= 1
            if _single.holders == 0 and _single.limiter is not None:
                _single.limiter.restore_original_limits()
                _single.before, _single.limiter = 0, None
