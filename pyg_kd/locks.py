"""Keeping other processes out of a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    r"""Hold the lock of a folder, which ends with the process.

    Raises:
        ValueError: If another process holds it.
    """
    path = folder / LOCK
    with path.open("w") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    raise FileNotFoundError  # of a process that was just finishing
            except (BlockingIOError, FileNotFoundError) as error:
                raise ValueError(f"another process is at work in '{folder}'") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
