"""The folder of a study, read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from pyg_kd.evaluation import Groups, PerUser
from pyg_kd.json_files import read_json
from pyg_kd.study.activity import read_activity
from pyg_kd.study.records import RECORD, STUDENT, TEACHER, Record

STUDY, STUDY_FORMAT = "study.json", "pyg_kd.study.1"
RUNS = "runs"


class Results:
    r"""The runs in the folder of a study, ordered by data set, world, method and seed.

    Iterating yields every :class:`Record`, the trials of a search included; a *finalist* is a run
    with the setting that was chosen, and alone has test metrics. What names a row is given in the
    order data set, world, method, seed.

    Args:
        path: The folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is no study, or a record in it is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"there is no study in '{path}'")
        if not (self.path / STUDY).is_file():
            raise ValueError(f"'{path}' is not a study: it has no {STUDY}")
        about = read_json(self.path / STUDY)
        if about.get("format") != STUDY_FORMAT or not isinstance(about.get("config"), dict):
            raise ValueError(f"'{self.path / STUDY}' is not of a study of format {STUDY_FORMAT!r}")
        self.name: str = str(about.get("name", ""))
        self.config: dict[str, Any] = about["config"]
        #: What else is known: ``title``, ``note``, ``command``, ``sizes``, ``machine``.
        self.about: dict[str, Any] = about
        #: Name of the row that others are compared with.
        self.baseline: str = str(about.get("baseline", ""))
        self._orders = [[*map(str, about.get(n, []))] for n in ("datasets", "worlds", "methods")]
        found = [Record.read(p.parent) for p in sorted((self.path / RUNS).glob(f"*/{RECORD}"))]
        self.records = sorted(found, key=self._place)
        self._chosen: list[str] | None = about.get("finalists")

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __repr__(self) -> str:
        return f"Results({self.name!r}, {len(self)} runs, {len(self.finalists())} tested)"

    @property
    def datasets(self) -> list[str]:
        """The data sets, in the order of the configuration."""
        return self._present(0)

    @property
    def worlds(self) -> list[str]:
        """The worlds, in the order of the configuration."""
        return self._present(1)

    @property
    def methods(self) -> list[str]:
        """The rows, in the order of the configuration, the teacher first."""
        return self._present(2)

    @property
    def seeds(self) -> list[int]:
        """The seeds of finalists, ascending."""
        return sorted({record.seed for record in self.finalists() if record.role == STUDENT})

    @property
    def metrics(self) -> list[str]:
        """The test metrics, like ``"recall@20"``."""
        return list(dict.fromkeys(name for r in self.finalists() for name in r.test or {}))

    def select(
        self,
        dataset: str | None = None,
        world: str | None = None,
        method: str | None = None,
        seed: int | None = None,
    ) -> list[Record]:
        """The runs of some rows, trials included."""
        wanted = (dataset, world, method, seed)
        return [
            record
            for record in self.records
            if all(w is None or w == r for w, r in zip(wanted, record.row, strict=True))
        ]

    def finalists(
        self, dataset: str | None = None, world: str | None = None, method: str | None = None
    ) -> list[Record]:
        """The tested runs of some rows."""
        return [r for r in self.select(dataset, world, method) if self._tested(r)]

    def record(self, dataset: str, world: str, method: str, seed: int) -> Record:
        r"""The finalist of a row at a seed.

        Raises:
            KeyError: If there is none.
        """
        found = [r for r in self.finalists(dataset, world, method) if r.seed == seed]
        if len(found) != 1:
            raise KeyError(
                f"{len(found)} tested runs of {(dataset, world, method, seed)!r} in '{self.path}'"
            )
        return found[0]

    def folder(self, record: Record) -> Path:
        """The folder of a run."""
        return self.path / RUNS / record.key

    def users(self, dataset: str, world: str, method: str, seed: int) -> PerUser:
        r"""The test metrics of every user, float64, of the finalist of a row at a seed.

        Raises:
            KeyError: If there is none.
            ValueError: If its file is damaged.
        """
        record = self.record(dataset, world, method, seed)
        return record.users(self.folder(record))

    def values(self, dataset: str, world: str, metric: str) -> dict[str, dict[int, Tensor]]:
        r"""A test metric of every user, float64 ``[n]``, by method and seed.

        The teacher is the row ``"teacher"``. All rows of a data set have the same users.

        Args:
            dataset: The data set.
            world: The world.
            metric: Like ``"ndcg@20"``.

        Raises:
            KeyError: If the metric was not measured.
            ValueError: If a file is damaged.
        """
        if metric not in self.metrics:
            raise KeyError(f"no run has the metric {metric!r}; there are {self.metrics}")
        found: dict[str, dict[int, Tensor]] = {}
        for record in self.finalists(dataset, world):
            users = record.users(self.folder(record))
            found.setdefault(record.method, {})[record.seed] = users.values[metric]
        return found

    def activity(self, dataset: str) -> Groups | None:
        r"""Users of a data set in quarters by their training interactions, if that was noted.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        about = self.about.get("activity", {}).get(dataset)
        return None if about is None else read_activity(self.path, about)

    def _tested(self, record: Record) -> bool:
        chosen = self._chosen is None or record.key in self._chosen
        return chosen and record.test is not None

    def _place(self, record: Record) -> tuple[Any, ...]:
        names = record.row[:3]
        places = [
            order.index(name) if name in order else len(order)
            for name, order in zip(names, self._orders, strict=True)
        ]
        return (*places, *names, record.role != TEACHER, record.seed, record.key)

    def _present(self, place: int) -> list[str]:
        return list(dict.fromkeys(str(record.row[place]) for record in self.records))
