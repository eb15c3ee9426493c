"""Where a service gets its bundle from, and how it learns that another has taken its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.bundle.manifest import MANIFEST
from pyg_kd.retrieval.bundle.reader import read_manifest
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.service.event_log import EventLog, Tail
from pyg_kd.retrieval.service.ranking import recommend
from pyg_kd.retrieval.service.requests import Recommend
from pyg_kd.retrieval.service.served import Served

#: Seconds between two tries of one refused bundle, and the most it doubles to: a bundle that is
#: copied file by file is sound a moment later.
FIRST_RETRY, LAST_RETRY = 1.0, 60.0

Stamp = tuple[int, ...] | None


class Source:
    r"""A folder that holds a bundle, now this one and then another.

    Args:
        path: The folder.
        log: The log of events that every bundle follows, if there is one.
        backend: What ranks items; see :func:`~pyg_kd.retrieval.backends.make_backend`.
    """

    def __init__(
        self, path: str | os.PathLike[str], log: Path | None = None, backend: str = "numpy"
    ) -> None:
        self.path, self.log, self.backend = Path(path), log, backend
        self._stamp: Stamp = None

    def load(self) -> Served:
        r"""The bundle that is there now, with all events of the log, ready to answer.

        Raises:
            ValueError: If it is no sound bundle, or the log is another file.
            OSError: If it can't be read, or the log can't.
        """
        self._stamp = self._stat()  # before reading: what comes later is another bundle
        index = load_student(self.path, backend=self.backend)
        served = Served(index, tail=None if self.log is None else self._tail(self.log))
        served.follow()
        _warm_up(served)
        return served

    @staticmethod
    def _tail(log: Path) -> Tail:
        EventLog(log)  # begins another where one was moved away
        return Tail(log)

    def look(self) -> str:
        r"""The digest of the bundle that is there now, which may be damaged otherwise.

        Raises:
            ValueError: If there is no sound manifest.
        """
        self._stamp = self._stat()
        told: Any = read_manifest(self.path)["sha256"]
        return str(told)

    def replaced(self) -> bool:
        """Whether the manifest is another one than that which was loaded or looked at last."""
        return self._stat() != self._stamp

    def _stat(self) -> Stamp:
        try:
            found = (self.path / MANIFEST).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _warm_up(served: Served) -> None:
    """Answer once, so that the first client does not wait for what is made at first use."""
    index: TopKIndex = served.index
    first: Any = index.users.take(np.arange(min(index.num_users, 1))).tolist()
    recommend(served, [*(Recommend(user=user) for user in first), Recommend(history=[])])
