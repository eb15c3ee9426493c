"""Counters that worker processes share: one row of integers for each, in one mapped file.

Only a worker writes to its row, and everybody reads all of them, so that any worker can answer for
the service. The rows outlive a worker that is killed: the one that takes its place counts on.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: The paths that are counted under their own names, and the statuses.
PATHS = (
    "/recommend",
    "/events",
    "/unavailable",
    "/available",
    "/filters",
    "/reload",
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/",
    "other",
)
STATUSES = (200, 304, 400, 401, 404, 405, 408, 409, 413, 415, 422, 431, 499, 500, 503, 0)

#: Upper bounds of the classes of seconds and of sizes; one more class has no bound.
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

#: What a row holds, and how many integers of it.
FIELDS = {
    "requests": len(PATHS) * len(STATUSES),
    "latency": (len(SECONDS) + 2) * 2,  # of /recommend and of all else: classes, nanoseconds
    "batches": len(SIZES) + 2,  # classes, sum
    "ranking_ns": 1,
    "followed": 1,
    "damaged": 1,
    "swaps": 1,
    "refused": 1,
    # From here on states, which a new worker starts anew.
    "waiting": 1,
    "open": 1,
    "ready": 1,
    "beat": 1,  # seconds of the machine's clock
    "digest": 4,
}
STATES = ("waiting", "open", "ready", "beat", "digest")

_ends = np.cumsum(list(FIELDS.values()))
PLACES = {
    name: slice(int(end) - size, int(end))
    for (name, size), end in zip(FIELDS.items(), _ends, strict=True)
}
WIDTH = int(_ends[-1])

Cells = npt.NDArray[np.int64]


class Board:
    r"""The counters of all workers.

    Args:
        workers: How many there are.
        worker: Which one this process is.
        handle: A file of :func:`board_bytes` zeros that all have open; by default memory of this
            process alone.

    Example:
        >>> board = Board()
        >>> board.own("swaps")[:] += 1
        >>> board.total("swaps").tolist()
        [1]
    """

    def __init__(self, workers: int = 1, worker: int = 0, handle: int | None = None) -> None:
        self.rows: Cells = np.zeros((workers, WIDTH), np.int64)
        if handle is not None:
            shared = mmap.mmap(handle, board_bytes(workers))
            self.rows = np.frombuffer(shared, np.int64).reshape(workers, WIDTH)
        self.row = self.rows[worker]

    def own(self, name: str) -> Cells:
        """The integers of a name of this worker, to be changed in place."""
        found: Cells = self.row[PLACES[name]]
        return found

    def total(self, name: str) -> Cells:
        """The sums over all workers."""
        found: Cells = self.rows[:, PLACES[name]].sum(0)
        return found

    def forget_states(self, worker: int) -> None:
        """Clear what was true of a worker that is gone."""
        for name in STATES:
            self.rows[worker, PLACES[name]] = 0

    def serve(self, digest: str | None) -> None:
        """Note the digest that this worker serves."""
        halves = np.frombuffer(bytes.fromhex(digest or "00" * 32), np.int64)
        self.own("digest")[:] = halves

    def digests(self) -> list[str]:
        """The digest that each worker serves, of those that do."""
        served = self.rows[:, PLACES["digest"]]
        return [row.tobytes().hex() for row in served if row.any()]


def board_bytes(workers: int) -> int:
    """The size of a board's file."""
    return workers * WIDTH * 8


def bucket(bounds: Sequence[float], value: float) -> int:
    """The first class whose bound is not below a value.

    Example:
        >>> bucket((1, 2, 4), 3), bucket((1, 2, 4), 5)
        (2, 3)
    """
    for place, bound in enumerate(bounds):
        if value <= bound:
            return place
    return len(bounds)
