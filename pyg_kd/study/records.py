"""What a run of a study leaves: one record, and the metrics of every user.

STUDY/study.json               the format, the name and the configuration of the study
STUDY/runs/KEY/record.json     a run: what it is made of, what it reached, what it took
STUDY/runs/KEY/users.parquet   its test metrics of every user, if its setting was chosen
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from pyg_kd.checks import is_number
from pyg_kd.evaluation import PerUser
from pyg_kd.files import atomic_write
from pyg_kd.json_files import read_json, write_json
from pyg_kd.retrieval.extras import need

FORMAT = "pyg_kd.record.1"
RECORD, USERS = "record.json", "users.parquet"

TEACHER, STUDENT = "teacher", "student"


@dataclass(frozen=True)
class Record:
    r"""One run.

    Args:
        key: Its name, the digest of its row and of ``recipe``.
        study: Name of the study.
        dataset: Name of the data set in the study.
        world: Name of the student's model with its teacher.
        method: Name of the row.
        seed: Seed of everything random in it.
        role: ``"teacher"`` or ``"student"``.
        setting: The values that were searched, by name.
        recipe: All that the run depends on, as plain JSON.
        versions: Versions of Python and of packages.
        hardware: The machine.
        seconds: Wall-clock seconds of training.
        cpu_seconds: Seconds of processors in training.
        peak_bytes: Largest memory of the process.
        size_bytes: Bytes of the model, of vectors where it has some.
        epochs: Epochs trained.
        best_epoch: The epoch that was kept, from 0; ``None`` without epochs.
        validation: The metric of the study on the validation targets.
        curve: Epoch and validation value at every validation.
        fingerprints: Digests of ``data``, ``train``, ``validation``, ``test`` and, where there is
            a teacher, ``knowledge``.
        command: The command that runs just this again.
        test: Mean of each test metric; ``None`` if the setting was not chosen.
        search: How the setting was chosen: ``"trials"``, ``"values"`` and ``"edges"``, the names
            of values that lie at an end of what was searched.
        warnings: What the run warned of.
        error: Why it has no validation value, where training diverged.
        measures: Further numbers, such as ``"latency ms"``.
        users_sha256: Digest of the file with the metrics of every user.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> record = Record("0f", "demo", "movielens", "mf", "student alone", 0, "student")
        >>> with TemporaryDirectory() as folder:
        ...     record.write(Path(folder))
        ...     Record.read(Path(folder)) == record
        True
    """

    key: str
    study: str
    dataset: str
    world: str
    method: str
    seed: int
    role: str
    setting: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    size_bytes: int = 0
    epochs: int = 0
    best_epoch: int | None = None
    validation: float | None = None
    curve: list[list[float]] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)
    command: str = ""
    test: dict[str, float] | None = None
    search: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    measures: dict[str, float] = field(default_factory=dict)
    users_sha256: str | None = None

    @property
    def recipe_key(self) -> str:
        """The digest of the recipe: rows that share it share what was trained."""
        return digest(self.recipe)

    @property
    def row(self) -> tuple[str, str, str, int]:
        """Data set, world, method and seed."""
        return self.dataset, self.world, self.method, self.seed

    def write(self, folder: Path) -> None:
        """Write the record into the folder of its run, atomically."""
        write_json(folder / RECORD, {"format": FORMAT, **asdict(self)})

    def tested(self, folder: Path, found: PerUser, search: dict[str, Any] | None = None) -> Record:
        r"""The record with test metrics, written, and those of every user beside it.

        Args:
            folder: The folder of the run.
            found: What ``evaluate(..., per_user=True)`` returned.
            search: How the setting was chosen.
        """
        digest = write_users(folder / USERS, found)
        record = replace(self, test=dict(found.mean), search=search, users_sha256=digest)
        record.write(folder)
        return record

    @classmethod
    def read(cls, folder: Path) -> Record:
        r"""The record in the folder of a run.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged, or something else.
        """
        path = folder / RECORD
        found = read_json(path)
        if found.pop("format", None) != FORMAT:
            raise ValueError(f"'{path}' is not a record of a study: its format is not {FORMAT!r}")
        kinds = get_type_hints(cls)
        wrong = [name for name in {**kinds, **found} if name not in kinds or name not in found]
        if wrong:
            what = "has no" if wrong[0] in kinds else "has a foreign"
            raise ValueError(f"'{path}' is damaged: it {what} field {wrong[0]!r}")
        for name, value in found.items():
            if not _fits(value, kinds[name]):
                raise ValueError(f"'{path}' is damaged: {name!r} is {value!r:.80}")
        return cls(**found)

    def users(self, folder: Path) -> PerUser:
        r"""The test metrics of every user.

        Raises:
            ValueError: If the run was not tested, or the file is damaged.
        """
        if self.test is None:
            raise ValueError(
                f"the run {self.key!r} has no test metrics: its setting was not chosen"
            )
        return read_users(folder / USERS, self.users_sha256)


def write_users(path: Path, found: PerUser) -> str:
    """Write the metrics of every user to a Parquet file, atomically: its SHA-256."""
    pa, parquet = _arrow(), _parquet()
    columns = {"user": found.user, **{n: v.double() for n, v in found.values.items()}}
    tables = pa.table({name: value.cpu().numpy() for name, value in columns.items()})
    with atomic_write(path) as temporary:
        parquet.write_table(tables, temporary)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_users(path: Path, sha256: str | None) -> PerUser:
    r"""Read what :func:`write_users` wrote.

    Args:
        path: The file.
        sha256: Its digest.

    Raises:
        ValueError: If the file is missing or has another digest.
    """
    parquet = _parquet()
    if not path.is_file():
        raise ValueError(f"'{path}' is missing")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"'{path}' is damaged: its content does not fit the record of its run")
    table = parquet.read_table(_arrow().BufferReader(content))
    columns = {n: torch.from_numpy(table[n].to_numpy().copy()) for n in table.column_names}
    user: Tensor = columns.pop("user")
    return PerUser({name: float(v.mean()) for name, v in columns.items()}, columns, user)


def digest(value: Any) -> str:
    """The key of a recipe: what it is made of, whatever the order of its names.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _arrow() -> Any:
    return need("pyarrow", "study", "a study")


def _parquet() -> Any:
    return need("pyarrow.parquet", "study", "a study")


def _fits(value: object, kind: Any) -> bool:
    """Whether a value read from a file is of the type of its field."""
    if isinstance(kind, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if kind is float:
        return is_number(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(kind) or kind)
