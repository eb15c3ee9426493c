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
from pyg_kd.study.results import Results

FORMAT = "pyg_kd.study.summary.1"

#: Values of every user, by method and seed.
Values = Mapping[str, Mapping[int, Tensor]]
Teacher = Mapping[int, Tensor] | Tensor | None


def summary(
    results: Results,
    metrics: Sequence[str] | None = None,
    *,
    num_replicates: int = 10_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    r"""Means, intervals, tests and costs of a study: what its report is written from.

    Every world has its rows: means and deviations over seeds, differences to the baseline and to
    the teacher by :func:`~pyg_kd.evaluation.compare_runs`, the gap closed, what was chosen, what
    it cost, and the commands that run it again. A teacher that was trained once is compared with
    as it stands.

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
ABOUT = ("title", "note", "command", "sizes")


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
    found: dict[str, Any] = {"dataset": dataset, "world": world, "runner-up": {}}
    for metric in metrics:
        values = results.values(dataset, world, metric)
        found["users"] = len(next(iter(next(iter(values.values())).values())))
        students = {n: of for n, of in values.items() if rows[n]["role"] != TEACHER}
        teacher = _teacher(values, rows)
        for name, of in mean_intervals(values, **draw).items():
            seeds = {str(s): float(v.mean()) for s, v in sorted(values[name].items())}
            rows[name]["test"][metric] = {
                "mean": of.mean,
                "deviation": of.deviation,
                "interval": list(of.interval),
                "seeds": seeds,
            }
        _tests(rows, students, teacher, results.baseline, metric, draw)
        found["runner-up"][metric] = _runner_up(students, draw)
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
        "against baseline": {},
        "against teacher": {},
        "gap closed": {},
    }


def _teacher(values: Values, rows: Mapping[str, Mapping[str, Any]]) -> Teacher:
    """The teacher by seed, or the one run that stands for all seeds."""
    found = next((of for name, of in values.items() if rows[name]["role"] == TEACHER), None)
    if found is None:
        return None
    most = max(len(of) for of in values.values())
    return next(iter(found.values())) if len(found) == 1 < most else found


def _tests(
    rows: dict[str, dict[str, Any]],
    students: Values,
    teacher: Teacher,
    baseline: str,
    metric: str,
    draw: dict[str, Any],
) -> None:
    """Differences and gaps of every row, put into the rows."""
    alone = students.get(baseline)
    if alone is not None:
        others = {n: of for n, of in students.items() if n != baseline and of.keys() & alone.keys()}
        for name, test in compare_runs(alone, others, **draw).items():
            rows[name]["against baseline"][metric] = comparison(test)
        if teacher is not None:
            for name, value in _gaps(others, alone, teacher, draw).items():
                rows[name]["gap closed"][metric] = value
    if teacher is not None:
        several = isinstance(teacher, Mapping)
        some = {
            n: of for n, of in students.items() if not several or of.keys() & set(teacher)
        }  # fmt: skip
        for name, test in compare_runs(teacher, some, **draw).items():
            rows[name]["against teacher"][metric] = comparison(test)


def _gaps(
    students: Values, alone: Mapping[int, Tensor], teacher: Teacher, draw: dict[str, Any]
) -> dict[str, Any]:
    """Gaps closed; none where the teacher is not above the student alone."""
    try:
        found = gap_closed(students, alone, teacher, **draw)  # type: ignore[arg-type]
    except ValueError:
        return {}
    return {
        name: {
            "value": gap.value,
            "interval": [end if isfinite(end) else None for end in gap.interval],
        }
        for name, gap in found.items()
    }


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
    first, *rest = sorted(means, key=means.__getitem__, reverse=True)
    if not rest or not students[first].keys() & students[rest[0]].keys():
        return None
    test = compare_runs(students[rest[0]], {first: students[first]}, **draw)[first]
    return {"best": first, "second": rest[0], **comparison(test)}


def _fingerprints(records: Sequence[Record]) -> dict[str, str]:
    """What all runs of a world share."""
    first = records[0].fingerprints
    shared = [n for n in first if all(r.fingerprints.get(n) == first[n] for r in records)]
    return {name: first[name] for name in shared if name != "knowledge"}
