"""The folder of a study, written: runs found, taken over and begun."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyg_kd.study.records import RECORD, Record, digest
from pyg_kd.study.results import RUNS

#: A data set, a world and a row.
Place = tuple[str, str, str]


class Store:
    r"""The runs in the folder of a study.

    Args:
        path: The folder.

    Raises:
        ValueError: If a record in it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        found = [Record.read(p.parent) for p in sorted((path / RUNS).glob(f"*/{RECORD}"))]
        self.records = {record.key: record for record in found}
        self.twins = {record.recipe_key: record.key for record in found}

    def folder(self, key: str) -> Path:
        """The folder of a run."""
        return self.path / RUNS / key

    def find(self, key: str) -> Record | None:
        """A run that is there."""
        with self.lock:
            return self.records.get(key)

    def finished(self, key: str) -> Record:
        """Read the record of a run that has just ended."""
        record = Record.read(self.folder(key))
        with self.lock:
            self.records[key] = record
            self.twins.setdefault(record.recipe_key, key)
        return record

    def adopt(self, wanted: Record) -> Record | None:
        """Take over the run of another row with the same recipe, if there is one."""
        with self.lock:
            key = self.twins.get(wanted.recipe_key)
            twin = None if key is None else self.records[key]
        if twin is None:
            return None
        folder = self.folder(wanted.key)
        shutil.copytree(
            self.folder(twin.key), folder, dirs_exist_ok=True, ignore=lambda *_: {RECORD}
        )
        names = ("key", "study", "dataset", "world", "method", "seed", "setting", "command")
        replace(twin, **{name: getattr(wanted, name) for name in names}).write(folder)
        return self.finished(wanted.key)


def wanted_record(
    study: str,
    place: Place,
    seed: int,
    role: str,
    setting: dict[str, Any],
    recipe: dict[str, Any],
    command: str,
) -> Record:
    """The record of a run as far as it is known beforehand, under the digest of row and recipe."""
    key = digest({"row": list(place), "recipe": recipe})
    return Record(key, study, *place, seed, role, setting, recipe, command=f"{command} --run {key}")
