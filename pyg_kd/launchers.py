"""Processes that end with the one that launched them, however that ended."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from multiprocessing.connection import wait

#: Seconds between two looks at whether the launcher is still there.
PAUSE = 0.5


def end_with_launcher() -> None:
    """End this process, from a thread, once the process that started it is gone.

    For a process of :mod:`multiprocessing` that is the one that called ``start``, even where a
    fork server lies between; for another, its parent.
    """
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        wait([launcher.sentinel])
    else:
        while os.getppid() == parent:
            time.sleep(PAUSE)
    os._exit(2)
