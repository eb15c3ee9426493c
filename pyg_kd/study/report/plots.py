"""The figures of a world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyg_kd.study.report.numbers import metric_text
from pyg_kd.study.report.section import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

World = Mapping[str, Any]
MARKS = "os^Dv<>pP*X"

#: What accuracy is set against: of a row, its label.
AXES = {
    "bytes": "bytes of the model [MB]",
    "CPU seconds": "CPU seconds of training",
    "latency ms": "a request, median [ms]",
}


def forest(world: World, baseline: str, metric: str, name: str) -> Figure:
    r"""Every row with its interval, its seeds as dots, and lines of baseline and teacher.

    Args:
        world: Of a summary.
        baseline: The row that others are compared with.
        metric: The metric.
        name: Of the figure.
    """
    rows = {n: row for n, row in world["rows"].items() if metric in row["test"]}
    order = sorted(rows, key=lambda n: rows[n]["test"][metric]["mean"])

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        _reference_lines(axes, rows, (baseline, world["teacher"]), metric)
        for place, row in enumerate(order):
            of = rows[row]["test"][metric]
            low, high = of["interval"]
            axes.plot([low, high], [place, place], color="C0", lw=2, solid_capstyle="round")
            seeds = list(of["seeds"].values())
            axes.plot(seeds, [place] * len(seeds), "o", color="C0", ms=3.5, alpha=0.5)
            axes.plot(of["mean"], place, "D", color="C0", ms=7)
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.set_xlabel(metric_text(metric))
        axes.grid(axis="y", visible=False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)

    values = "; ".join(f"{n} {rows[n]['test'][metric]['mean']:.4f}" for n in reversed(order))
    return Figure(
        name,
        draw,
        f"{metric_text(metric)} with 95 % intervals over users and seeds; dots are seeds. "
        "Intervals that overlap say nothing about a difference: all rows have the same users.",
        f"{metric_text(metric)} of every row, from the best down: {values}.",
        (6.0, 1.1 + 0.32 * len(order)),
    )


def _reference_lines(
    axes: Axes, rows: Mapping[str, World], names: tuple[str, str | None], metric: str
) -> None:
    for name, color, style in zip(names, ("C7", "C1"), ("--", "-"), strict=True):
        if name is not None and name in rows:
            value = rows[name]["test"][metric]["mean"]
            axes.axvline(value, color=color, ls=style, lw=1.3, label=name)


def pareto(world: World, metric: str, name: str) -> Figure | None:
    r"""Accuracy against what it costs, one panel each, with the front that nothing beats.

    Args:
        world: Of a summary.
        metric: The metric.
        name: Of the figure.

    Returns:
        The figure; ``None`` where no cost was measured.
    """
    rows = {n: row for n, row in world["rows"].items() if metric in row["test"]}
    panels = {kind: costs for kind in AXES if (costs := _costs(rows, kind))}
    if not panels:
        return None

    def draw(canvas: Canvas) -> None:
        every = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (kind, costs) in zip(every, panels.items(), strict=True):
            _panel(axes, rows, costs, metric)
            axes.set_xlabel(AXES[kind])
        every[0].set_ylabel(metric_text(metric))
        handles = {label: mark for axes in every for mark, label in _handles(axes)}
        canvas.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize=9
        )

    fronts = "; ".join(
        f"by {AXES[kind]}: {', '.join(front(costs, _means(rows, costs, metric)))}"
        for kind, costs in panels.items()
    )
    return Figure(
        name,
        draw,
        f"{metric_text(metric)} against what it costs. The line joins rows that no other row "
        "beats at the same cost or less.",
        f"{metric_text(metric)} against cost; rows that nothing beats, {fronts}.",
        (3.0 * len(panels) + 0.4, 3.6 + 0.22 * (len(rows) // 3 + 1)),
    )


def _costs(rows: Mapping[str, World], kind: str) -> dict[str, float]:
    """A cost of the rows that have it; nothing where all have the same or fewer than two do."""
    found = {n: row.get(kind, row["measures"].get(kind)) for n, row in rows.items()}
    costs = {n: value / (1e6 if kind == "bytes" else 1) for n, value in found.items() if value}
    return costs if len(costs) > 1 else {}


def _means(rows: Mapping[str, World], names: Mapping[str, float], metric: str) -> dict[str, float]:
    return {name: rows[name]["test"][metric]["mean"] for name in names}


def _panel(axes: Axes, rows: Mapping[str, World], costs: dict[str, float], metric: str) -> None:
    means = _means(rows, costs, metric)
    best = front(costs, means)
    axes.plot([costs[n] for n in best], [means[n] for n in best], color="C7", lw=1, zorder=1)
    for place, row in enumerate(rows):
        if row in costs:
            mark, color = MARKS[place % len(MARKS)], f"C{place % 7}"
            axes.plot(costs[row], means[row], mark, color=color, ms=7, label=row, ls="none")
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.1)
    _plain_ticks(axes)


def _handles(axes: Axes) -> list[tuple[Any, str]]:
    return list(zip(*axes.get_legend_handles_labels(), strict=True))


def _plain_ticks(axes: Axes) -> None:
    """Plain numbers at so few places that they don't meet."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if high / low < 30 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def front(costs: Mapping[str, float], values: Mapping[str, float]) -> list[str]:
    r"""The names that no other beats: none costs as much or less and reaches more.

    Example:
        >>> front({"a": 1, "b": 2, "c": 3}, {"a": 0.2, "b": 0.1, "c": 0.3})
        ['a', 'c']
    """
    found: list[str] = []
    for name in sorted(costs, key=lambda n: (costs[n], -values[n])):
        if not found or values[name] > values[found[-1]]:
            found.append(name)
    return found
