"""The tables of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyg_kd.study.records import TEACHER
from pyg_kd.study.report.findings import strictest
from pyg_kd.study.report.numbers import (
    interval,
    mean_deviation,
    metric_text,
    percent,
    percent_interval,
    seconds,
    setting_text,
    short_p,
    size,
)
from pyg_kd.study.report.section import Cell, Table

World = Mapping[str, Any]


def accuracy(
    world: World, metrics: Sequence[str], published: Mapping[str, Mapping[str, float]] | None = None
) -> Table:
    r"""Means and deviations of every row, the best student in bold.

    Args:
        world: Of a summary.
        metrics: The metrics.
        published: Published figures by row and metric, each with its own column.
    """
    published = published or {}
    theirs = [m for m in metrics if any(m in of for of in published.values())]
    rows = world["rows"]
    best = {m: _best(rows, m) for m in metrics}
    lines: list[list[Cell]] = []
    for name, row in rows.items():
        tested = [row["test"].get(metric) for metric in metrics]
        lines.append([
            name,
            *(_mean(of, name == best[m]) for m, of in zip(metrics, tested, strict=True)),
            max((len(of["seeds"]) for of in tested if of), default=None),
            *(_published(row["test"].get(m), published.get(name, {}).get(m)) for m in theirs),
        ])  # fmt: skip
    return Table(
        [
            "Row",
            *map(metric_text, metrics),
            "Seeds",
            *(f"Published {metric_text(m)}" for m in theirs),
        ],
        lines,
        "Means over seeds and their standard deviations; the best student in bold.",
    )


def _mean(of: World | None, best: bool) -> str:
    if of is None:
        return ""
    text = mean_deviation(of["mean"], of["deviation"])
    return f"**{text}**" if best else text


def _published(ours: World | None, theirs: float | None) -> str | None:
    """A published figure, and by how much ours differs."""
    if theirs is None:
        return None
    return f"{theirs:.4f}" + (f" ({100 * (ours['mean'] / theirs - 1):+.1f} %)" if ours else "")


def _best(rows: Mapping[str, World], metric: str) -> str | None:
    means = {
        name: row["test"][metric]["mean"]
        for name, row in rows.items()
        if row["role"] != TEACHER and metric in row["test"]
    }
    return max(means, key=means.__getitem__, default=None)


def differences(world: World, metric: str, beside: str, *, gaps: bool = False) -> Table | None:
    r"""Differences to a row with their tests.

    Args:
        world: Of a summary.
        metric: The metric.
        beside: Name of that row.
        gaps: Also tell of the gap closed, where there is one.

    Returns:
        The table; ``None`` where nothing was compared.
    """
    tests = {
        n: of[metric]
        for n, row in world["rows"].items()
        if metric in (of := row["against"].get(beside, {}))
    }
    if not tests:
        return None
    closed = {n: world["rows"][n]["gap closed"].get(metric) for n in tests} if gaps else {}
    gaps = any(closed.values())
    kinds = [k for k in ("both", "users", "seeds") if any(k in test for test in tests.values())]
    header = ["Row", "Difference", "95 % interval", *(f"p, {kind}" for kind in kinds)]
    lines: list[list[Cell]] = []
    for label, test in tests.items():
        ps = [short_p(test[k]["Holm"]) if k in test else None for k in kinds]
        ends = interval(strictest(test)["interval"], sign=True)
        line: list[Cell] = [label, f"{test['difference']:+.4f}", ends, *ps]
        lines.append([*line, *_gap(closed[label])] if gaps else line)
    return Table(
        [*header, "Gap closed", "its 95 % interval"] if gaps else header,
        lines,
        f"{metric_text(metric)} minus that of {beside}.",
    )


def _gap(gap: World | None) -> tuple[Cell, Cell]:
    if gap is None:
        return None, None
    return percent(gap["value"]), percent_interval(gap["interval"])


def costs(world: World) -> Table:
    """What was chosen, and what it took."""
    rows = world["rows"]
    measures = list(dict.fromkeys(name for row in rows.values() for name in row["measures"]))
    lines: list[list[Cell]] = [
        [
            name,
            setting_text(row["setting"]),
            row["search"].get("trials"),
            ", ".join(edge.rpartition(".")[2] for edge in row["search"].get("edges", [])),
            f"{row['epochs']:g}",
            seconds(row["CPU seconds"]),
            seconds(row["seconds"]),
            size(row["peak bytes"]),
            size(row["bytes"]),
            *(_number(row["measures"].get(measure)) for measure in measures),
        ]
        for name, row in rows.items()
    ]
    header = ["Row", "Setting", "Trials", "At an edge", "Epochs", "CPU s", "Seconds", "Peak memory"]
    return Table(
        [*header, "Model", *(name.capitalize() for name in measures)],
        lines,
        "Chosen settings, and what one run takes: medians over seeds.",
    )


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def fingerprints(world: World) -> Table:
    """What identifies the data."""
    found = world["fingerprints"]
    return Table(
        ["What", "Digest"],
        [[name, f"`{digest[:16]}`"] for name, digest in found.items()],
        "Digests of what all rows share.",
    )
