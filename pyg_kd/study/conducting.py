"""Studies from their configuration: run, read, and verified."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyg_kd.checks import require_count, require_positive
from pyg_kd.json_files import read_json, write_json
from pyg_kd.locks import locked
from pyg_kd.provenance import machine
from pyg_kd.study.activity import write_activity
from pyg_kd.study.binding import nearest
from pyg_kd.study.checking import check_config, check_sizes
from pyg_kd.study.commands import study_command
from pyg_kd.study.config import as_config, read_config
from pyg_kd.study.data import read_graphs
from pyg_kd.study.limits import Limits
from pyg_kd.study.own_classes import look_in, own_names
from pyg_kd.study.plan import Plan
from pyg_kd.study.processes import Executor, Processes
from pyg_kd.study.records import Record
from pyg_kd.study.results import STUDY, STUDY_FORMAT, Results
from pyg_kd.study.running import Running
from pyg_kd.study.schema import Config
from pyg_kd.study.store import Store


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
    stopped, however, goes on where it was, and a run that is there is never trained again. A
    script calls this under ``if __name__ == "__main__":``, since processes import it.

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
        >>> from tempfile import TemporaryDirectory
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
    made = checked(config, roots)
    command = study_command(config, made.name, out, roots)
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
        plan, known = planned(made, limits, roots or {}, path)
        about = {name: {**before.get(name, {}), **of} for name, of in known.items()}
        _write(path, made, command, {**about, "finalists": before.get("finalists", [])})
        running = Running(
            plan,
            store=Store(path),
            executor=executor or Processes(),
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


def planned(
    made: Config, limits: Limits, roots: Mapping[str, str], path: Path | None = None
) -> tuple[Plan, dict[str, Any]]:
    """The plan of a study on its data, and what is known of the data, some of it in its folder."""
    sizes, prints, activity = {}, {}, {}
    for name, dataset in made.datasets.items():
        if limits.datasets is None or name in limits.datasets:
            graphs = read_graphs(dataset, roots.get(name))
            sizes[name], prints[name] = graphs.sizes, graphs.fingerprints
            check_sizes(made, name, sizes[name])
            if path is not None:
                activity[name] = write_activity(path, prints[name]["split"], graphs.train)
    plan = Plan(made, sizes, {name: prints[name]["split"] for name in prints})
    return plan, {"sizes": sizes, "fingerprints": prints, "activity": activity}


def _outcome(running: Running, found: list[Record], before: Mapping[str, Any]) -> dict[str, Any]:
    """What ran, and what did not; finalists of rows that were not wanted stay, if they belong."""
    wanted = {(*place, seed) for place, seed in running.finalists()}
    earlier = [running.store.find(key) for key in before.get("finalists", [])]
    stay = [r for r in earlier if r is not None and running.plan.has(r)]
    keys = {r.key for r in stay if r.row not in wanted} | {record.key for record in found}
    return {
        "finalists": sorted(keys),
        "missing": len(wanted) - len(found),
        "failed": running.failures.told,
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
    plan = Plan(made, {}, {})
    teachers = dict.fromkeys(name for of in plan.teachers.values() for name in of)
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
        "methods": [*teachers, *made.methods],
        "seeds": made.seeds,
        "published": made.published,
        "machine": machine(),
        "config": asdict(made),
    }
    write_json(path / STUDY, {**head, **about})


def checked(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    roots: Mapping[str, str] | None = None,
) -> Config:
    """A configuration, read where it is a file, and checked.

    Own classes are found beside the file and in the current folder, too.
    """
    folders = [Path.cwd()]
    if isinstance(config, (str, os.PathLike)):
        folders.insert(0, Path(config).expanduser().parent)
        config = read_config(Path(config))
    elif isinstance(config, Mapping):
        config = as_config(config)
    look_in(folders, own_names(asdict(config)))
    check_config(config, roots)
    return config


def _check_names(made: Config, **wanted: Collection[Any] | None) -> None:
    for option, names in wanted.items():
        known = list(getattr(made, option))
        for name in names or ():
            if name not in known:
                raise ValueError(f"{option!r}: there is no {name!r}{nearest(str(name), known)}")
