"""The figure of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyg_kd.training.history import History

Rows = Mapping[str, Mapping[str, Any]]


def draw(rows: Rows, histories: Mapping[str, History], metric: str, path: Path, title: str) -> None:
    """Training curves on the left, accuracy against size on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    figure.suptitle(title)
    colors = {name: f"C{place}" for place, name in enumerate(rows)}
    _curves(histories, metric, colors, left)
    _sizes(rows, metric, colors, right)
    left.set_ylim(0, 1.15 * max(left.dataLim.ymax, right.dataLim.ymax))
    figure.savefig(path, dpi=150)


def _curves(
    histories: Mapping[str, History], metric: str, colors: Mapping[str, str], axes: Any
) -> None:
    for name, history in histories.items():
        if metric in history.columns:
            history.plot(metric, ax=axes, label=name)
            axes.lines[-1].set_color(colors[name])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=metric, title="validation, during training")
    if axes.lines:
        axes.legend(loc="lower right")


def _sizes(rows: Rows, metric: str, colors: Mapping[str, str], axes: Any) -> None:
    for name, row in rows.items():
        axes.scatter(row["bytes"] / 1e6, row[metric], s=60, color=colors[name])
    _name_points(rows, metric, axes)
    axes.set(xscale="log", xlabel="size [MB]", title="test")
    sizes = sorted({row["bytes"] / 1e6 for row in rows.values()})
    axes.set_xticks(sizes, labels=[f"{size:.3g}" for size in sizes])
    axes.minorticks_off()
    axes.margins(x=0.4)


def _name_points(rows: Rows, metric: str, axes: Any) -> None:
    """Write names beside points: those of one size below each other, in the order of accuracy."""
    for size in {row["bytes"] for row in rows.values()}:
        names = [name for name, row in rows.items() if row["bytes"] == size]
        names.sort(key=lambda name: rows[name][metric])
        middle = sum(rows[name][metric] for name in names) / len(names)
        for place, name in enumerate(names):
            axes.annotate(
                name,
                (size / 1e6, middle),
                xytext=(9, 14 * (place - (len(names) - 1) / 2)),
                textcoords="offset points",
                va="center",
            )
