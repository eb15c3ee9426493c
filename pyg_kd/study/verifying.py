"""Rows of a study run again, and what is stored of a study compared with it."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyg_kd.checks import require_count
from pyg_kd.json_files import read_json
from pyg_kd.progress import Progress
from pyg_kd.study.binding import nearest
from pyg_kd.study.commands import portable
from pyg_kd.study.conducting import checked, planned
from pyg_kd.study.limits import Limits
from pyg_kd.study.processes import Executor, Processes, RunFailed
from pyg_kd.study.records import Record
from pyg_kd.study.results import STUDY, Results
from pyg_kd.study.runner import Runner
from pyg_kd.study.schema import Config
from pyg_kd.study.settings import Setting
from pyg_kd.study.store import Place, Store

#: What a rerun may differ by, where another machine sums in another order.
TOLERANCE = 1e-3


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
    made = checked(config, roots)
    stored = stored_runs(made, config, Path(out).expanduser())
    keys = _drawn(stored, wanted, draw)
    known: dict[Place, Setting] = {}
    for run in stored.values():
        known[(run["row"][0], run["row"][1], run["row"][2])] = run["setting"]
    limits = Limits(datasets={stored[key]["row"][0] for key in keys})
    plan, _ = planned(made, limits, roots or {})
    found: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        runner = Runner(
            plan,
            Store(Path(folder)),
            executor or Processes(),
            limits=Limits(datasets=()),
            roots=roots or {},
            known=known,
            command="",
            threads=threads,
            jobs=1,
            progress=Progress("runs", 0, unit="run", shown=False),
        )
        try:
            with Progress("verifying", len(keys), unit="row", shown=progress) as bar:
                for key in keys:
                    found.append(_compared(runner, key, stored[key]))
                    bar.update()
        except RunFailed as error:
            raise ValueError(f"a row cannot be run again: {error}") from error
    return found


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
        "command": portable(record.command),
    }


def results_path(made: Config, config: object) -> Path | None:
    """The file of stored results, beside the configuration unless it is absolute."""
    if made.results is None:
        return None
    beside = Path(os.fspath(config)).parent if isinstance(config, (str, os.PathLike)) else Path()
    return Path(os.path.normpath(beside / made.results))


def _compared(runner: Runner, key: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    dataset, world, method, seed = stored["row"]
    record = runner.again((dataset, world, method), seed)
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
