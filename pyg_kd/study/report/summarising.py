"""All that a report says of a study, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import median
from typing import Any

from torch import Tensor

from pyg_kd.evaluation import Comparison, RunsComparison, compare_runs, gap_closed, mean_intervals
from pyg_kd.progress import Progress
from pyg_kd.study.records import TEACHER, Record
from pyg_kd.study.report.by_activity import by_activity
from pyg_kd.study.results import Results

FORMAT = "pyg_kd.study.summary.1"

#: Values of every user, by method and seed.
Values = Mapping[str, Mapping[int, Tensor]]
#: What rows are compared with: seed by seed, or one run with all.
Standing = Mapping[int, Tensor] | Tensor


def summary(
    results: Results,
    metrics: Sequence[str] | None = None,
    *,
    num_replicates: int = 10_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    r"""Means, intervals, tests and costs of a study: what its report is written from.

    Every world has its rows: means and deviations over seeds, differences to the baseline, to the
    teacher and to what else the study compares with, by :func:`~pyg_kd.evaluation.compare_runs`,
    the gap closed, what was chosen, what it cost, and the commands that run it again. A teacher
    that was trained once is compared with as it stands.

    Args:
        results: The study.
        metrics: Test metrics to tell of; by default all, the one that settings were chosen by
            first.
        num_replicates: Replicates of the bootstrap over users and seeds.
        seed: Of its draws.
        progress: Show a progress bar.

    Returns:
        Plain JSON, without a value of any single user.

    Raises:
        ValueError: If nothing was tested, or a metric was not measured.
    """
    if not results.finalists():
        raise ValueError(f"'results' must hold a tested run (got {results!r})")
    metrics = _metrics(results, metrics)
    places = [(d, w) for d in results.datasets for w in results.worlds if results.finalists(d, w)]
    draw: dict[str, Any] = {"num_replicates": num_replicates, "seed": seed}
    worlds = []
    with Progress("report", len(places), unit="world", shown=progress) as bar:
        for dataset, world in places:
            worlds.append(_world(results, dataset, world, metrics, draw))
            bar.update()
    newest = results.finalists()[-1]
    return {
        "format": FORMAT,
        "name": results.name,
        **{key: results.about[key] for key in ABOUT if results.about.get(key)},
        "baseline": results.baseline,
        "metrics": list(metrics),
        "config": results.config,
        "versions": newest.versions,
        "hardware": newest.hardware,
        "bootstrap": draw,
        "worlds": worlds,
    }


#: What a study says of itself.
ABOUT = ("title", "note", "command", "sizes", "published", "missing", "failed")


def _metrics(results: Results, wanted: Sequence[str] | None) -> list[str]:
    unknown = [name for name in wanted or () if name not in results.metrics]
    if unknown:
        raise ValueError(f"'metrics' must be of {results.metrics} (got {unknown[0]!r})")
    if wanted:
        return list(wanted)
    first = results.config.get("metric")
    return sorted(results.metrics, key=lambda name: name != first)


def _world(
    results: Results, dataset: str, world: str, metrics: Sequence[str], draw: dict[str, Any]
) -> dict[str, Any]:
    records: dict[str, list[Record]] = {}
    for record in results.finalists(dataset, world):
        records.setdefault(record.method, []).append(record)
    rows = {name: _row(of) for name, of in records.items()}
    teacher = _teacher_name(rows)
    found: dict[str, Any] = {"dataset": dataset, "world": world, "teacher": teacher}
    found["runner-up"] = {}
    names = dict.fromkeys([results.baseline, *results.about.get("against", []), teacher])
    found["beside"] = [name for name in names if name in rows]
    for metric in metrics:
        values = results.values(dataset, world, metric)
        found["users"] = len(next(iter(next(iter(values.values())).values())))
        students = {n: of for n, of in values.items() if rows[n]["role"] != TEACHER}
        _means(rows, values, metric, draw)
        for name in found["beside"]:
            _differences(rows, students, name, _standing(values, name), metric, draw)
        if teacher and results.baseline in students:
            _gaps(rows, students, results.baseline, _standing(values, teacher), metric, draw)
        if metric == metrics[0]:  # the one that the report's sentences are about
            found["runner-up"][metric] = _runner_up(students, draw)
    activity = by_activity(results, dataset, world, metrics[0], teacher)
    if activity is not None:
        found["activity"] = activity
    found["fingerprints"] = _fingerprints([r for of in records.values() for r in of])
    return found | {"rows": rows}


def _row(records: Sequence[Record]) -> dict[str, Any]:
    """What was chosen and what it cost: medians over seeds."""
    first = records[0]
    measures = {name for record in records for name in record.measures}
    return {
        "role": first.role,
        "setting": first.setting,
        "search": first.search or {},
        "epochs": median(record.epochs for record in records),
        "seconds": median(record.seconds for record in records),
        "CPU seconds": median(record.cpu_seconds for record in records),
        "peak bytes": max(record.peak_bytes for record in records),
        "bytes": first.size_bytes,
        "measures": {
            name: median(r.measures[name] for r in records if name in r.measures)
            for name in sorted(measures)
        },
        "knowledge": first.fingerprints.get("knowledge"),
        "commands": {str(record.seed): record.command for record in records},
        "test": {},
        "against": {},
        "gap closed": {},
    }


def _teacher_name(rows: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The row of the world's teacher; others teach single rows."""
    teachers = [name for name, row in rows.items() if row["role"] == TEACHER]
    return TEACHER if TEACHER in teachers else next(iter(teachers), None)


def _standing(values: Values, name: str) -> Standing:
    """A row by seed, or its one run, which stands for all seeds if others have several."""
    found = values[name]
    most = max(len(of) for of in values.values())
    return next(iter(found.values())) if len(found) == 1 < most else found


def _means(
    rows: dict[str, dict[str, Any]], values: Values, metric: str, draw: dict[str, Any]
) -> None:
    for name, of in mean_intervals(values, **draw).items():
        rows[name]["test"][metric] = {
            "mean": of.mean,
            "deviation": of.deviation,
            "interval": list(of.interval),
            "seeds": {str(s): float(v.mean()) for s, v in sorted(values[name].items())},
        }


def _differences(
    rows: dict[str, dict[str, Any]],
    students: Values,
    name: str,
    beside: Standing,
    metric: str,
    draw: dict[str, Any],
) -> None:
    """What every student is above or below a row."""
    some = {n: of for n, of in students.items() if n != name and _share(of, beside)}
    for row, test in compare_runs(beside, some, **draw).items():
        rows[row]["against"].setdefault(name, {})[metric] = comparison(test)


def _share(runs: Mapping[int, Tensor], beside: Standing) -> bool:
    return not isinstance(beside, Mapping) or bool(runs.keys() & beside.keys())


def _gaps(
    rows: dict[str, dict[str, Any]],
    students: Values,
    baseline: str,
    teacher: Standing,
    metric: str,
    draw: dict[str, Any],
) -> None:
    """Gaps closed; none where the teacher is not above the student alone."""
    alone = students[baseline]
    some = {n: of for n, of in students.items() if n != baseline and _share(of, alone)}
    try:
        found = gap_closed(some, alone, teacher, **draw)
    except ValueError:
        return
    for name, gap in found.items():
        ends = [end if isfinite(end) else None for end in gap.interval]
        rows[name]["gap closed"][metric] = {"value": gap.value, "interval": ends}


def comparison(test: RunsComparison) -> dict[str, Any]:
    """A comparison as plain JSON."""
    kinds = {"users": test.users, "seeds": test.seeds, "both": test.both}
    return {
        "difference": test.users.difference,
        "seeds in common": test.num_seeds,
        **{kind: _plain(of) for kind, of in kinds.items() if of is not None},
    }


def _plain(test: Comparison) -> dict[str, Any]:
    return {"interval": list(test.interval), "p": test.p_value, "Holm": test.adjusted}


def _runner_up(students: Values, draw: dict[str, Any]) -> dict[str, Any] | None:
    """The best row beside the second best."""
    means = {
        name: sum(float(v.mean()) for v in of.values()) / len(of) for name, of in students.items()
    }
    if len(means) < 2:
        return None
    first, second = sorted(means, key=means.__getitem__, reverse=True)[:2]
    if not students[first].keys() & students[second].keys():
        return None
    test = compare_runs(students[second], {first: students[first]}, **draw)[first]
    return {"best": first, "second": second, **comparison(test)}


def _fingerprints(records: Sequence[Record]) -> dict[str, str]:
    """What all runs of a world share."""
    first = records[0].fingerprints
    shared = [n for n in first if all(r.fingerprints.get(n) == first[n] for r in records)]
    return {name: first[name] for name in shared if name != "knowledge"}
