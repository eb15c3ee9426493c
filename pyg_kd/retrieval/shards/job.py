"""What one process does for shards of lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.shards.parquet import ids_column, list_columns, write_table
from pyg_kd.shards.parts import Content, Part, Report, parts_of

Array = npt.NDArray[Any]

KIND = "lists"

#: Users ranked at once.
AT_ONCE = 2048


@dataclass
class Listing:
    r"""A :class:`~pyg_kd.shards.Job`.

    Args:
        bundle: The folder of the student, which every process opens for itself.
        sha256: The digest of its manifest.
        num_users: How many users it has.
        users: Original ids of the users who get lists, or of new ones; by default all.
        histories: The items of each of them, if they are new.
        k: Length of the lists.
        options: Further arguments of the search.
        backend: What ranks items.
        rows: Users of a part.
        threads: Threads of a process.
    """

    bundle: Path
    sha256: str
    num_users: int
    users: Sequence[Any] | None
    histories: Sequence[Any] | None
    k: int
    options: dict[str, Any] = field(default_factory=dict)
    backend: str = "numpy"
    rows: int = 1
    threads: int = 1

    @property
    def request(self) -> dict[str, Any]:
        """All that the bytes depend on."""
        told = {name: _digest(value) for name, value in self.options.items()}
        return {
            "kind": KIND,
            "bundle": self.sha256,
            "k": self.k,
            "listed": self.num_listed,
            "users": _digest(self.users),
            "histories": _digest(self.histories),
            **told,
            "backend": self.backend,
            "rows": self.rows,
            "threads": self.threads,
        }

    @property
    def independent(self) -> bool:
        """Always."""
        return True

    @property
    def num_listed(self) -> int:
        """How many users get lists."""
        return self.num_users if self.users is None else len(self.users)

    @property
    def stages(self) -> list[list[Part]]:
        """One of them."""
        return [parts_of("lists", self.num_listed, self.rows)]

    @cached_property
    def index(self) -> TopKIndex:
        """The student, its tables mapped."""
        return load_student(self.bundle, verify=False, backend=self.backend)

    def working(self) -> AbstractContextManager[object]:
        """As many threads as are told."""
        limits: AbstractContextManager[object] = import_module("threadpoolctl").threadpool_limits(
            self.threads
        )
        return limits

    def make(self, part: Part, folder: Path, report: Report) -> dict[str, Content]:
        """The file of a part."""
        blocks = list(self._blocks(part, report))
        users = [user for some, _, _ in blocks for user in some]
        items, scores = (np.concatenate([block[place] for block in blocks]) for place in (1, 2))
        lists = list_columns(scores != -np.inf, items, scores.astype(np.float32))
        columns = {"user": _ids(users), "items": lists[0], "scores": lists[1]}
        return {part.name: write_table(columns, {"pyg_kd.bundle": self.sha256})}

    def _blocks(self, part: Part, report: Report) -> Iterator[tuple[list[Any], Array, Array]]:
        """Users, and their items and scores ``[n, k]``."""
        for start in range(part.start, part.stop, AT_ONCE):
            stop = min(start + AT_ONCE, part.stop)
            if self.users is None:
                users = self.index.users.take(np.arange(start, stop)).tolist()
            else:
                users = list(self.users[start:stop])
            if self.histories is None:
                items, scores = self.index.search(users, self.k, **self.options)
            else:
                histories = list(self.histories[start:stop])
                items, scores = self.index.search_history(histories, self.k, **self.options)
            yield users, items, scores
            report(stop - start)

    def __getstate__(self) -> dict[str, Any]:
        """Without the student, which is opened elsewhere."""
        return {name: value for name, value in vars(self).items() if name != "index"}


def _ids(users: list[Any]) -> Any:
    text = any(isinstance(user, str) for user in users)
    return ids_column([str(user) for user in users] if text else np.array(users, np.int64))


def _digest(value: Any) -> Any:
    """Few words as they are, ids by their digest."""
    if value is None or isinstance(value, (bool, str)):
        return value
    digest = hashlib.sha256()
    for entry in value:
        plain = np.asarray(entry).tolist()
        digest.update(f"{plain!r}\n".encode())
    return digest.hexdigest()
