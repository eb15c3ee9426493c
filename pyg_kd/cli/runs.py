"""The folder of a run: its options, what it depends on, and its result.

config.yaml             the options, all of them: what --config takes
run.json                the command, versions, machine, inputs with SHA-256, state of the run
metrics.json            the result
NAME.safetensors        the state of a model
NAME.history.json       its training, epoch by epoch
teacher.report.json     what an ensemble of teachers is made of
checkpoints/NAME/       while it is trained
tuning.json             the trials of a search
.replaced/              what --overwrite replaces, until the new run is complete
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from pyg_kd.cli.console import note
from pyg_kd.files import atomic_write
from pyg_kd.json_files import read_json, write_json
from pyg_kd.locks import LOCK, locked
from pyg_kd.provenance import described, machine, versions

yaml: Any = import_module("yaml")  # which publishes no types

CONFIG, RECORD, METRICS, CHECKPOINTS = "config.yaml", "run.json", "metrics.json", "checkpoints"
#: The trials of a search.
TRIALS = "tuning.json"

#: What a run may leave in its folder, and ``--overwrite`` may remove.
OWN = (
    CONFIG, RECORD, METRICS, CHECKPOINTS, LOCK, "bundle", "teacher", "titles.csv",
    "*.safetensors", "*.history.json", "*.report.json", TRIALS, "trials.csv", "best.yaml", "report",
)  # fmt: skip

#: Where what is replaced is kept: it comes back if the new run fails before anything is trained.
REPLACED = ".replaced"

RUNNING, COMPLETE = "running", "complete"


class Run:
    """A run that is going on, or one that was."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        r"""A complete run.

        Raises:
            ValueError: If the folder holds none, or one that was not finished.
        """
        run = cls(path)
        if not (run.path / RECORD).is_file():
            raise ValueError(f"'{path}' is not a run: it has no {RECORD}")
        if run.record.get("state") != COMPLETE:
            raise ValueError(f"'{path}' is not complete: run the command again to continue it")
        return run

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        return read_json(self.path / RECORD)

    @property
    def metrics(self) -> dict[str, Any]:
        """The result."""
        return read_json(self.path / METRICS)

    @property
    def config(self) -> dict[str, Any]:
        """All options, by name."""
        path = self.path / CONFIG
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"'{path}' is damaged ({error})") from error
        if not isinstance(found, dict):
            raise ValueError(f"'{path}' is damaged: it must hold options by name")
        return found

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been trained yet."""
        patterns = ("*.safetensors", "*.history.json", f"{CHECKPOINTS}/*/*.pt", TRIALS)
        return not any(path for pattern in patterns for path in self.path.glob(pattern))

    def state(self, name: str) -> Path:
        """The file of the state of a model."""
        return self.path / f"{name}.safetensors"

    def history(self, name: str) -> Path:
        """The file of the history of a model."""
        return self.path / f"{name}.history.json"

    def checkpoints(self, name: str) -> Path:
        """The folder of the checkpoint of a model."""
        return self.path / CHECKPOINTS / name

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the options, those chosen by a recipe as well."""
        with atomic_write(self.path / CONFIG) as temporary:
            text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
            temporary.write_text(text, encoding="utf-8")

    def update(self, **values: Any) -> None:
        """Add to what is recorded of the run."""
        write_json(self.path / RECORD, self.record | values)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the result."""
        write_json(self.path / METRICS, metrics)


@contextmanager
def begin(
    out: str, command: str, options: dict[str, Any], inputs: Sequence[Path], overwrite: bool
) -> Iterator[Run]:
    r"""Begin a run in a folder, or continue one that was interrupted.

    Args:
        out: The folder.
        command: Name of the command.
        options: Its options, as they were given.
        inputs: The files that it reads.
        overwrite: Replace a run that is there.

    Raises:
        ValueError: If the folder holds something else, a complete run, or one of other options,
            or another process is at work in it.
    """
    run = Run(Path(out).expanduser())
    files = {os.path.abspath(path): described(path) for path in inputs}
    request = {"command": command, "options": options, "inputs": files}
    new = not run.path.exists()
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        with locked(run.path):
            _make_room(run, request, overwrite)
            with _recorded(run, request):
                yield run
    except BaseException:
        if new:
            with suppress(OSError):
                run.path.rmdir()  # unless there is something to continue from
        raise
    note(f"wrote {run.path}")


@contextmanager
def _recorded(run: Run, request: dict[str, Any]) -> Iterator[None]:
    """Keep the record of a run up to date while it goes on."""
    start, spent = time.monotonic(), 0.0
    if (run.path / RECORD).exists():
        spent = float(run.record.get("seconds", 0.0))
        note(f"continuing the run in {run.path}")
    else:
        write_json(run.path / RECORD, request)
    run.update(state=RUNNING, versions=versions(), machine=machine())
    try:
        yield
        shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)
        run.update(state=COMPLETE, seconds=round(spent + time.monotonic() - start, 3))
        shutil.rmtree(run.path / REPLACED, ignore_errors=True)
    except BaseException:
        run.update(seconds=round(spent + time.monotonic() - start, 3))
        if run.is_empty:  # nothing to continue from, so the options may change
            _remove(run.path)
            _put_back(run.path)
        raise


def _make_room(run: Run, request: dict[str, Any], overwrite: bool) -> None:
    """Empty the folder, or leave the remains of the same run; raise for everything else."""
    if not (run.path / RECORD).is_file():  # a run that was killed while it made room
        _put_back(run.path)
    content = [path for path in run.path.iterdir() if path.name != LOCK]
    if not content:
        return
    if not (run.path / RECORD).is_file():
        raise ValueError(f"'out' must be an empty folder or a run (got '{run.path}')")
    if overwrite:
        return _set_aside(run.path)
    record = run.record
    if record.get("state") == COMPLETE:
        raise ValueError(f"'{run.path}' holds a complete run: --overwrite replaces it")
    for name, value in json.loads(json.dumps(request)).items():
        old, new = record.get(name), value
        if name == "options":
            old, new = deciding(old or {}), deciding(new)
        if old != new:
            raise ValueError(
                f"'{run.path}' holds an interrupted run with other {name}"
                f"{_difference(old, new)}: --overwrite replaces it"
            )


def deciding(options: dict[str, Any]) -> dict[str, Any]:
    """The options that a run must have again to be continued.

    Example:
        >>> deciding({"dim": 8, "progress": True})
        {'dim': 8}
    """
    return {name: value for name, value in options.items() if name != "progress"}


def _difference(old: Any, new: Any) -> str:
    """The first thing in which two dictionaries differ."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return ""
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return f" ({changed[0]} was {old.get(changed[0])!r}, is {new.get(changed[0])!r})"


def _own(folder: Path) -> list[Path]:
    """What runs leave, and nothing else; the record first."""
    found = {path for pattern in OWN for path in folder.glob(pattern) if path.name != LOCK}
    return sorted(found, key=lambda path: (path.name != RECORD, path.name))


def _remove(folder: Path) -> None:
    for path in _own(folder):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _set_aside(folder: Path) -> None:
    """Make room for a run, and keep what is complete until that one is."""
    aside = folder / REPLACED
    if aside.exists():  # what is here now replaced it, and was interrupted
        return _remove(folder)
    aside.mkdir()
    for path in _own(folder):
        path.rename(aside / path.name)


def _put_back(folder: Path) -> None:
    aside = folder / REPLACED
    if aside.is_dir():
        for path in reversed(_own(aside)):  # with its record it is whole
            path.rename(folder / path.name)
        aside.rmdir()
