"""What the numbers of a study say, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyg_kd.study.records import TEACHER
from pyg_kd.study.report.numbers import (
    interval,
    listed,
    metric_text,
    percent,
    percent_interval,
    short_p,
)

LEVEL = 0.05

World = Mapping[str, Any]


def findings(world: World, baseline: str, metric: str) -> list[str]:
    r"""Sentences on one world.

    Args:
        world: Of a summary.
        baseline: The row that others are compared with.
        metric: The metric to tell of.

    Returns:
        The best row, the teacher, the rows that do not differ from the baseline, those below it,
        and what to be careful about.
    """
    rows = {n: row for n, row in world["rows"].items() if metric in row["test"]}
    students = {n: row for n, row in rows.items() if row["role"] != TEACHER}
    if not students:
        told = [f"{name} reaches {_mean(row, metric):.4f}" for name, row in rows.items()]
        return [f"No student was tested: {listed(told)}."]
    found = [_best(students, baseline, metric)]
    found += [_runner_up(world["runner-up"].get(metric))]
    found += [_teacher(rows, world["teacher"], baseline, metric)]
    found += _groups(students, baseline, metric)
    found += _cautions(students, metric)
    return [sentence for sentence in found if sentence]


def _mean(row: World, metric: str) -> float:
    return float(row["test"][metric]["mean"])


def _best(students: Mapping[str, World], baseline: str, metric: str) -> str:
    name = max(students, key=lambda n: _mean(students[n], metric))
    row = students[name]
    text = f"The best row is **{name}**, with {metric_text(metric)} {_mean(row, metric):.4f}"
    test = _beside(row, baseline, metric)
    if test is None:
        return f"{text}." if name != baseline else f"{text}: no method is above it."
    share = test["difference"] / _mean(students[baseline], metric)
    text += (
        f", {100 * share:+.1f} % beside {baseline} "
        f"({_difference(test)}, {verdict(test)}, {_p(test)})"
    )
    gap = row["gap closed"].get(metric)
    if gap is not None:
        ends = percent_interval(gap["interval"])
        text += f"; it closes {percent(gap['value'])} of the gap to the teacher (interval {ends})"
    return f"{text}."


def _runner_up(test: World | None) -> str:
    if test is None:
        return ""
    how = "" if _significant(test) else "not "
    return (
        f"It is {how}significantly above the second best, {test['second']} "
        f"({_difference(test)}, {_p(test)})."
    )


def _beside(row: World, name: str | None, metric: str) -> World | None:
    """The comparison of a row with another."""
    found: World | None = row["against"].get(name, {}).get(metric)
    return found


def _teacher(rows: Mapping[str, World], name: str | None, baseline: str, metric: str) -> str:
    """Where the teacher stands, between the student alone and the best row."""
    if name not in rows or name is None:
        return ""
    text = f"The teacher reaches {_mean(rows[name], metric):.4f}"
    alone = _beside(rows[baseline], name, metric) if baseline in rows else None
    if alone is not None:
        below = alone["difference"] < 0
        sure = "significantly" if _significant(alone) else "not significantly"
        text += f", {sure} {'above' if below else 'below'} {baseline} ({_p(alone)})"
        if not below:
            text += ": there is no gap to close"
    above = [
        n
        for n, row in rows.items()
        if (test := _beside(row, name, metric)) is not None
        and test["difference"] > 0
        and _significant(test)
        and n != baseline
    ]
    return f"{text}. " + (
        f"Significantly above it: {_named(above)}."
        if above
        else "No student is significantly above it."
    )


def _groups(students: Mapping[str, World], baseline: str, metric: str) -> list[str]:
    """Which rows do not differ from the baseline, and which are below it."""
    beside = {n: _beside(row, baseline, metric) for n, row in students.items()}
    tests = {n: test for n, test in beside.items() if test is not None}
    unclear = [n for n, test in tests.items() if not _significant(test)]
    below = [n for n, test in tests.items() if _significant(test) and test["difference"] < 0]
    found = []
    if unclear:
        found.append(f"Not significantly different from {baseline}: {_named(unclear)}.")
    if below:
        found.append(f"Significantly below {baseline}: {_named(below)}.")
    if tests and not unclear and not below:
        found.append(f"Every other row is significantly above {baseline}.")
    return found


def _cautions(students: Mapping[str, World], metric: str) -> list[str]:
    edges = [n for n, row in students.items() if row["search"].get("edges")]
    found = []
    if edges:
        found.append(
            f"The best setting lies at the edge of what was searched for {_named(edges)}: "
            "more might be reached beyond."
        )
    counts = [len(row["test"][metric]["seeds"]) for row in students.values()]
    if min(counts) < 2:
        found.append("Rows of one seed are tested over users alone: another seed may differ.")
    elif min(counts) < 5:
        found.append(
            f"With {min(counts)} seeds, how much seeds differ is known roughly: intervals over "
            "users and seeds rest on seeds whose means are normal."
        )
    return found


def _named(rows: list[str]) -> str:
    """Rows in a sentence; their names may hold commas."""
    return listed([f"*{name}*" for name in rows])


def strictest(test: World) -> World:
    """The test over users and seeds, or the one over users where there is one seed."""
    found: World = test["both"] if "both" in test else test["users"]
    return found


def _significant(test: World) -> bool:
    return bool(strictest(test)["Holm"] <= LEVEL)


def verdict(test: World) -> str:
    """Whether a difference is significant, in words."""
    return "significant" if _significant(test) else "not significant"


def _difference(test: World) -> str:
    ends = interval(strictest(test)["interval"], sign=True)
    return f"{test['difference']:+.4f}, 95 % interval {ends}"


def _p(test: World) -> str:
    return f"p {_with_sign(strictest(test)['Holm'])}"


def _with_sign(p: float) -> str:
    text = short_p(p)
    return text.replace("<", "< ") if text.startswith("<") else f"= {text}"
