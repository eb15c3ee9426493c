"""Whom the rows of a study serve: a metric by how active users are."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from pyg_kd.evaluation import slice_users
from pyg_kd.evaluation.slice_table import ALL, Slice
from pyg_kd.study.records import TEACHER
from pyg_kd.study.report.numbers import metric_text, percent, percent_interval
from pyg_kd.study.report.plots import MARKS
from pyg_kd.study.report.section import Cell, Figure, Section, Table
from pyg_kd.study.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

World = Mapping[str, Any]

TEXT = """\
Users in quarters by their training interactions. In brackets, what a row keeps of the teacher's \
metric over the users of the quarter."""
SHOWN = 6  # lines that can be told apart in one figure


def by_activity(
    results: Results, dataset: str, world: str, metric: str, teacher: str | None
) -> dict[str, Any] | None:
    r"""A metric of every row by the activity of users, beside the teacher's.

    Args:
        results: The study.
        dataset: The data set.
        world: The world.
        metric: The metric.
        teacher: The row of the teacher, if there is one.

    Returns:
        Plain JSON; ``None`` for a study that has not noted how active its users are.

    Raises:
        ValueError: If a file is damaged.
    """
    groups = results.activity(dataset)
    if groups is None:
        return None
    runs: dict[str, list[Any]] = {}
    for record in results.finalists(dataset, world):
        runs.setdefault(record.method, []).append(record.users(results.folder(record)))
    reference = runs.get(teacher) if teacher else None
    rows = {}
    for name, of in runs.items():
        beside = None if name == teacher else reference
        found = slice_users(of, groups, reference=beside, metric=metric)
        rows[name] = {row.name: _plain(row) for row in found if row.users}
    return {"metric": metric, "rows": rows}


def _plain(row: Slice) -> dict[str, Any]:
    """A slice as plain JSON: ends of an interval that is open are missing."""
    ends = row.retention_interval or ()
    return {
        "users": row.users,
        "value": row.value,
        "retention": row.retention,
        "retention interval": [end if isfinite(end) else None for end in ends],
    }


def activity_section(world: World, name: str) -> Section | None:
    r"""The section on it: a table, a figure, and where the best row keeps least.

    Args:
        world: Of a summary.
        name: Of the figure.

    Returns:
        The section; ``None`` for a summary that has no such numbers.
    """
    found: World | None = world.get("activity")
    if not found:
        return None
    rows, metric = found["rows"], found["metric"]
    groups = [group for group in next(iter(rows.values())) if group != ALL]
    counts = [next(iter(rows.values()))[group]["users"] for group in groups]
    header = ["Row", *(f"{group} ({n:,})" for group, n in zip(groups, counts, strict=True))]
    lines: list[list[Cell]] = [[row, *(_cell(of[g]) for g in groups)] for row, of in rows.items()]
    caption = f"{metric_text(metric)} by training interactions of the user (number of test users)"
    figures = [_figure(world, rows, groups, metric, name)] if len(groups) > 1 else []
    return Section(
        "By activity of users",
        TEXT + _least(world, rows, groups, metric),
        [Table(header, lines, caption)],
        figures,
    )


def _cell(of: World) -> str:
    kept = "" if of["retention"] is None else f" ({percent(of['retention'])})"
    return f"{of['value']:.4f}{kept}"


def _students(world: World, rows: World, metric: str) -> list[str]:
    """Students, from the best down."""
    names = [name for name in rows if world["rows"][name]["role"] != TEACHER]
    return sorted(names, key=lambda name: -world["rows"][name]["test"][metric]["mean"])


def _least(world: World, rows: World, groups: list[str], metric: str) -> str:
    best = next(iter(_students(world, rows, metric)), "")
    kept = {g: rows[best][g]["retention"] for g in groups} if best else {}
    if not kept or None in kept.values():
        return ""
    worst = min(kept, key=kept.__getitem__)
    between = percent_interval(rows[best][worst]["retention interval"])
    return (
        f" The best row, *{best}*, keeps least with {worst} interactions: {percent(kept[worst])} "
        f"(95 % interval {between}); {percent(rows[best][ALL]['retention'])} over all users."
    )


def _figure(world: World, rows: World, groups: list[str], metric: str, name: str) -> Figure:
    teachers = [row for row in rows if world["rows"][row]["role"] == TEACHER]
    shown = [*teachers[:1], *_students(world, rows, metric)[:SHOWN]]

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for place, row in enumerate(shown):
            values = [rows[row][group]["value"] for group in groups]
            style = "--" if row in teachers else "-"
            axes.plot(groups, values, style, marker=MARKS[place], color=f"C{place}", label=row)
        axes.set_xlabel("training interactions of the user")
        axes.set_ylabel(metric_text(metric))
        canvas.legend(loc="outside lower center", ncols=3, fontsize=9)

    values = {row: ", ".join(f"{rows[row][g]['value']:.4f}" for g in groups) for row in shown}
    said = "; ".join(f"{row} {of}" for row, of in values.items())
    return Figure(
        name,
        draw,
        f"{metric_text(metric)} by activity: the teacher, and the best rows.",
        f"{metric_text(metric)} of users with {', '.join(groups)} interactions: {said}.",
        (6.0, 4.0),
    )
