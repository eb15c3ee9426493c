"""The tables of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def accuracy(world: World, metrics: Sequence[str]) -> Table:
    """Means and deviations of every row, the best student in bold."""
    rows = world["rows"]
    best = {m: _best(rows, m) for m in metrics}
    lines: list[list[Cell]] = []
    for name, row in rows.items():
        tested = [row["test"].get(metric) for metric in metrics]
        lines.append([
            name,
            *(_mean(of, name == best[m]) for m, of in zip(metrics, tested, strict=True)),
            max((len(of["seeds"]) for of in tested if of), default=None),
        ])  # fmt: skip
    return Table(
        ["Row", *map(metric_text, metrics), "Seeds"],
        lines,
        "Means over seeds and their standard deviations; the best student in bold.",
    )


def _mean(of: World | None, best: bool) -> str:
    if of is None:
        return ""
    text = mean_deviation(of["mean"], of["deviation"])
    return f"**{text}**" if best else text


def _best(rows: Mapping[str, World], metric: str) -> str | None:
    means = {
        name: row["test"][metric]["mean"]
        for name, row in rows.items()
        if row["role"] != "teacher" and metric in row["test"]
    }
    return max(means, key=means.__getitem__, default=None)


def differences(world: World, metric: str, beside: str, name: str) -> Table | None:
    r"""Differences to a row with their tests, and the gap closed where there is one.

    Args:
        world: Of a summary.
        metric: The metric.
        beside: ``"against baseline"`` or ``"against teacher"``.
        name: What to call that row.
    """
    rows = {n: row for n, row in world["rows"].items() if metric in row[beside]}
    if not rows:
        return None
    gaps = beside == "against baseline" and any(metric in r["gap closed"] for r in rows.values())
    header = ["Row", "Difference", "95 % interval", "p, both", "p, users", "p, seeds"]
    lines: list[list[Cell]] = []
    for label, row in rows.items():
        test = row[beside][metric]
        ps = [short_p(test[k]["Holm"]) if k in test else None for k in ("both", "users", "seeds")]
        ends = interval(strictest(test)["interval"], sign=True)
        line: list[Cell] = [label, f"{test['difference']:+.4f}", ends, *ps]
        lines.append([*line, *_gap(row["gap closed"].get(metric))] if gaps else line)
    return Table(
        [*header, "Gap closed", "its 95 % interval"] if gaps else header,
        lines,
        f"{metric_text(metric)} minus that of {name}.",
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
