"""Studies from their configuration: run, read, and verified."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyg_kd.checks import require_count, require_positive
from pyg_kd.json_files import read_json, write_json
from pyg_kd.locks import locked
from pyg_kd.provenance import machine
from pyg_kd.study.binding import nearest
from pyg_kd.study.checking import check_config
from pyg_kd.study.config import Config, as_config, read_config
from pyg_kd.study.data import read_graphs
from pyg_kd.study.plan import Plan
from pyg_kd.study.processes import Executor, Processes, RunFailed
from pyg_kd.study.records import TEACHER, Record
from pyg_kd.study.results import STUDY, STUDY_FORMAT, Results
from pyg_kd.study.running import Limits, Running
from pyg_kd.study.settings import Setting
from pyg_kd.study.store import Place, Store

#: What a rerun may differ by, where another machine sums in another order.
TOLERANCE = 1e-3


def run_study(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    out: str | os.PathLike[str],
    *,
    jobs: int = 1,
    threads: int = 1,
    minutes: float | None = None,
    datasets: Collection[str] | None = None,
    worlds: Collection[str] | None = None,
    methods: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    roots: Mapping[str, str] | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> Results:
    r"""Run a study, or what is missing of it.

    Every row, the student alone included, tries equally many settings at the first seed; the one
    with the best validation value is run with all seeds. A best value at an end of its grid adds
    settings there, up to ``budget.extensions``; what still lies at an end is noted in
    ``Record.search``. Test targets are read once, for the runs that were chosen. Each run is a
    process of its own, known by the digest of its row and of all it depends on: a study that was
    stopped, however, goes on where it was, and a run that is there is never trained again.

    Args:
        config: A YAML file, or what it holds (:mod:`pyg_kd.study.config`).
        out: The folder of the study.
        jobs: Runs at a time.
        threads: Threads of a run.
        minutes: No run is started after them; call again to go on.
        datasets: These data sets alone.
        worlds: These worlds alone.
        methods: These rows alone.
        seeds: These seeds alone.
        roots: Folders of the files of data sets, by their names in the study.
        executor: Does the runs; processes by default.
        progress: Show progress on the standard error stream.

    Returns:
        The runs in the folder. ``about["missing"]`` counts tested runs that are still to come,
        ``about["failed"]`` tells what failed.

    Raises:
        ValueError: If the configuration is wrong, the folder holds something else, or another
            process is at work in it.
        FileNotFoundError: If a file is missing.
        ImportError: If the extra ``study`` is not installed.

    Example:
        >>> from pyg_kd.study.processes import InProcess
        >>> config = {
        ...     "name": "tiny",
        ...     "metric": "ndcg@5",
        ...     "seeds": [0],
        ...     "datasets": {"made": {
        ...         "data": "SyntheticInteractions",
        ...         "options": {"num_users": 60, "num_items": 40, "num_edges": 900},
        ...     }},
        ...     "teachers": {"ease": {"model": "EASE"}},
        ...     "worlds": {"mf": {"teacher": "ease", "student": {
        ...         "model": "MF", "dim": 4, "trainer": {"max_epochs": 2}}}},
        ...     "methods": {"student alone": {}, "soft": {"method": "SoftLabel"}},
        ... }
        >>> with TemporaryDirectory() as out:
        ...     run_study(config, out, executor=InProcess(), progress=False)
        Results('tiny', 3 runs, 3 tested)
    """
    made, command = _config(config), _command(config)
    _check_names(made, datasets=datasets, worlds=worlds, methods=methods, seeds=seeds)
    require_count(jobs=jobs, threads=threads)
    if minutes is not None:
        require_positive(minutes=minutes)
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    limits = Limits(until, datasets, worlds, methods, seeds)
    path = Path(out).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        before = _about(path, made)
        plan, about = _plan(made, limits, roots or {})
        _write(path, made, command, {**about, "finalists": before.get("finalists", [])})
        running = Running(
            plan,
            Store(path),
            executor or Processes(jobs),
            limits=limits,
            roots=roots or {},
            known={},
            command=command,
            threads=threads,
            jobs=jobs,
            progress=progress,
        )
        found = running()
        about |= _outcome(running, found, before)
        _write(path, made, command, about)
    return Results(path)


def verify_study(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    out: str | os.PathLike[str],
    wanted: int | Collection[str],
    *,
    draw: int = 0,
    threads: int = 1,
    roots: Mapping[str, str] | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    r"""Run rows again from nothing, their teachers included, and compare what comes out.

    Args:
        config: The configuration of the study.
        out: Its folder; where that is not there, the file that the configuration names as
            ``results`` tells settings and values.
        wanted: Keys of tested runs, or how many to draw at random.
        draw: Seed of the draw.
        threads: Threads of a run.
        roots: Folders of the files of data sets.
        executor: Does the runs; processes by default.
        progress: Show progress on the standard error stream.

    Returns:
        One mapping a row: ``key``, ``row``, ``stored`` and ``again``, the test metrics, their
        largest ``difference``, and whether it is ``same`` within .001.

    Raises:
        ValueError: If there is no such run, or nothing to compare with.
    """
    made = _config(config)
    stored = stored_runs(made, config, Path(out).expanduser())
    keys = _drawn(stored, wanted, draw)
    known: dict[Place, Setting] = {}
    for run in stored.values():
        known[(run["row"][0], run["row"][1], run["row"][2])] = run["setting"]
    limits = Limits(datasets={stored[key]["row"][0] for key in keys})
    plan, _ = _plan(made, limits, roots or {})
    with TemporaryDirectory() as folder:
        running = Running(
            plan,
            Store(Path(folder)),
            executor or Processes(1),
            limits=Limits(datasets=()),
            roots=roots or {},
            known=known,
            command="",
            threads=threads,
            jobs=1,
            progress=False,
        )
        try:
            return [_compared(running, key, stored[key]) for key in keys]
        except RunFailed as error:
            raise ValueError(f"a row cannot be run again: {error}") from error


def stored_runs(made: Config, config: object, out: Path) -> dict[str, dict[str, Any]]:
    r"""The tested runs of a study by key, from its folder or from its stored results.

    Raises:
        ValueError: If there are none.
    """
    if (out / STUDY).is_file():
        runs = {r.key: run_summary(r) for r in Results(out).finalists()}
    else:
        path = results_path(made, config)
        if path is None or not path.is_file():
            raise ValueError(f"there is neither a study in '{out}' nor a file of its results")
        runs = read_json(path).get("runs", {})
    if not runs:
        raise ValueError(f"the study {made.name!r} has no tested runs")
    return runs


def run_summary(record: Record) -> dict[str, Any]:
    """What stored results say of a run."""
    return {
        "row": list(record.row),
        "setting": record.setting,
        "validation": record.validation,
        "test": record.test,
        "search": record.search,
        "seconds": record.seconds,
        "CPU seconds": record.cpu_seconds,
        "peak bytes": record.peak_bytes,
        "bytes": record.size_bytes,
        "command": record.command,
    }


def results_path(made: Config, config: object) -> Path | None:
    """The file of stored results, beside the configuration unless it is absolute."""
    if made.results is None:
        return None
    beside = Path(os.fspath(config)).parent if isinstance(config, (str, os.PathLike)) else Path()
    return beside / made.results


def _compared(running: Running, key: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    dataset, world, method, seed = stored["row"]
    record = running.again((dataset, world, method), seed)
    found, before = record.test or {}, stored["test"]
    gaps = [abs(found.get(name, math.inf) - value) for name, value in before.items()]
    return {
        "key": key,
        "row": stored["row"],
        "stored": before,
        "again": found,
        "difference": max(gaps),
        "same": max(gaps) <= TOLERANCE,
        "CPU seconds": record.cpu_seconds,
    }


def _drawn(stored: Mapping[str, Any], wanted: int | Collection[str], draw: int) -> list[str]:
    if isinstance(wanted, int):
        require_count(verify=wanted)
        rows = sorted(stored)
        return random.Random(draw).sample(rows, min(wanted, len(rows)))
    for key in wanted:
        if key not in stored:
            raise ValueError(f"there is no tested run {key!r}{nearest(key, stored)}")
    return list(wanted)


def _plan(made: Config, limits: Limits, roots: Mapping[str, str]) -> tuple[Plan, dict[str, Any]]:
    """The plan of a study on its data, and what is known of the data."""
    sizes, prints = {}, {}
    for name, dataset in made.datasets.items():
        if limits.datasets is None or name in limits.datasets:
            graphs = read_graphs(dataset, roots.get(name))
            sizes[name], prints[name] = graphs.sizes, graphs.fingerprints
    plan = Plan(made, sizes, {name: prints[name]["split"] for name in prints})
    return plan, {"sizes": sizes, "fingerprints": prints}


def _outcome(running: Running, found: list[Record], before: Mapping[str, Any]) -> dict[str, Any]:
    """What ran, and what did not; finalists of rows that were not wanted stay."""
    wanted = {(*place, seed) for place, seed in running.finalists()}
    stay = [running.store.find(key) for key in before.get("finalists", [])]
    keys = {r.key for r in stay if r is not None and r.row not in wanted}
    keys |= {record.key for record in found}
    return {
        "finalists": sorted(keys),
        "missing": len(wanted) - len(found),
        "failed": running.failed,
    }


def _about(path: Path, made: Config) -> dict[str, Any]:
    """What a folder says of its study, which must be this one."""
    if (path / STUDY).is_file():
        about = read_json(path / STUDY)
        if about.get("format") != STUDY_FORMAT or about.get("name") != made.name:
            raise ValueError(f"'{path}' holds another study ({about.get('name')!r})")
        return about
    if any(entry.name != ".lock" for entry in path.iterdir()):
        raise ValueError(f"'out' must be an empty folder or that of the study (got '{path}')")
    return {}


def _write(path: Path, made: Config, command: str, about: Mapping[str, Any]) -> None:
    head = {
        "format": STUDY_FORMAT,
        "name": made.name,
        "title": made.title or made.name,
        "note": made.note,
        "command": command,
        "baseline": made.baseline,
        "against": made.against or [made.baseline],
        "metric": made.metric,
        "datasets": list(made.datasets),
        "worlds": list(made.worlds),
        "methods": [TEACHER, *made.methods],
        "seeds": made.seeds,
        "published": made.published,
        "machine": machine(),
        "config": asdict(made),
    }
    write_json(path / STUDY, {**head, **about})


def _config(config: str | os.PathLike[str] | Mapping[str, Any] | Config) -> Config:
    if isinstance(config, (str, os.PathLike)):
        config = read_config(Path(config))
    elif isinstance(config, Mapping):
        config = as_config(config)
    check_config(config)
    return config


def _command(config: object) -> str:
    """How the study is run, with the path of its file as seen from here where it lies below."""
    if not isinstance(config, (str, os.PathLike)):
        return "pyg-kd study CONFIG.yaml"
    path = Path(config).expanduser().resolve()
    below = path.is_relative_to(Path.cwd())
    return f"pyg-kd study {path.relative_to(Path.cwd()) if below else path.name}"


def _check_names(made: Config, **wanted: Collection[Any] | None) -> None:
    for option, names in wanted.items():
        known = list(getattr(made, option))
        for name in names or ():
            if name not in known:
                raise ValueError(f"{option!r}: there is no {name!r}{nearest(str(name), known)}")
