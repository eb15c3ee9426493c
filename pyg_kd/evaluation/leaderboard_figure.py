"""The figure of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

from pyg_kd.training.history import History

Rows = Mapping[str, Mapping[str, Any]]


def draw(rows: Rows, histories: Mapping[str, History], metric: str, path: Path, title: str) -> None:
    """Training curves on the left, if there are any, and accuracy against size on the right."""
    from matplotlib.figure import Figure

    curves = {name: found for name, found in histories.items() if metric in found.columns}
    figure = Figure(figsize=(10 if curves else 6, 4), layout="constrained")
    panels = figure.subplots(1, 2 if curves else 1, sharey=True, squeeze=False)[0]
    figure.suptitle(title)
    colors = {name: f"C{place}" for place, name in enumerate(rows)}
    _sizes(rows, metric, colors, panels[-1])
    top = max(row[metric] for row in rows.values())
    if curves:
        _curves(curves, metric, colors, panels[0])
        top = max(top, panels[0].dataLim.ymax)
    panels[0].set_ylabel(metric)
    panels[0].set_ylim(0, 1.15 * top)
    figure.savefig(path, dpi=150)


def _curves(
    histories: Mapping[str, History], metric: str, colors: Mapping[str, str], axes: Any
) -> None:
    for name, history in histories.items():
        history.plot(metric, ax=axes, label=name)
        axes.lines[-1].set_color(colors[name])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", title="validation, during training")
    axes.legend(loc="lower right")


def _sizes(rows: Rows, metric: str, colors: Mapping[str, str], axes: Any) -> None:
    for name, row in rows.items():
        axes.scatter(row["bytes"] / 1e6, row[metric], s=60, color=colors[name])
    _name_points(rows, metric, axes)
    axes.set(xscale="log", xlabel="size [MB]", title="test")
    sizes = _spaced(sorted({row["bytes"] / 1e6 for row in rows.values()}))
    axes.set_xticks(sizes, labels=[f"{size:.3g}" for size in sizes])
    axes.minorticks_off()
    axes.margins(x=0.4)


def _spaced(sizes: list[float], least: float = 0.15) -> list[float]:
    """Sizes to label: none nearer to the one before than a share of the axis, which is log."""
    kept, span = sizes[:1], log(sizes[-1] / sizes[0])
    for size in sizes[1:]:
        if log(size / kept[-1]) > least * span:
            kept.append(size)
    return kept


def _name_points(rows: Rows, metric: str, axes: Any) -> None:
    """Write names beside points: those of one size below each other, in the order of accuracy."""
    least = min(row["bytes"] for row in rows.values())
    for size in {row["bytes"] for row in rows.values()}:
        names = [name for name, row in rows.items() if row["bytes"] == size]
        names.sort(key=lambda name: rows[name][metric])
        middle = sum(rows[name][metric] for name in names) / len(names)
        for place, name in enumerate(names):
            axes.annotate(
                name,
                (size / 1e6, middle),
                # Names of the smallest models are on the side where there is nothing else.
                xytext=(-9 if size == least else 9, 14 * (place - (len(names) - 1) / 2)),
                textcoords="offset points",
                ha="right" if size == least else "left",
                va="center",
            )
