"""Accuracy against bytes and against latency, drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyg_kd.files import atomic_write
from pyg_kd.retrieval.latency.report import LatencyRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The mark of each precision.
MARKS = {"float32": "o", "float16": "s", "int8": "^", "int4": "D"}


def plot_tradeoff(
    rows: Sequence[LatencyRow],
    path: str | os.PathLike[str],
    *,
    accuracy: str = "recall",
    title: str = "",
) -> None:
    r"""Draw recall against the bytes of the tables, and against the median latency.

    A model has a colour, a precision a mark. Rows are of one model, and joined, if their names
    differ only in a precision at the end, such as ``student`` and ``student int8``.

    Args:
        rows: Rows with a recall, as of a report.
        path: The file; its suffix tells the format, PNG for ``.png``.
        accuracy: What to call the recall.
        title: Title of the figure.

    Raises:
        ImportError: If Matplotlib is missing.
        ValueError: If there are no rows, or one has no recall.
    """
    recalls = [row.recall for row in rows if row.recall is not None]
    if not rows or len(recalls) < len(rows):
        without = [row.model for row in rows if row.recall is None]
        raise ValueError(f"'rows' must each have a recall (got none for {without})")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot_tradeoff needs Matplotlib: pip install 'pyg_kd[plot]'") from error
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    figure.suptitle(title)
    for axis, values, label in (
        (left, [row.nbytes / 1e6 for row in rows], "bytes of both tables [MB]"),
        (right, [row.p50 for row in rows], "one user at a time, median [ms]"),
    ):
        _draw(axis, rows, values, recalls)
        axis.set(xscale="log", xlabel=label)
        _number_ticks(axis)
        axis.grid(alpha=0.3)
    left.set_ylabel(accuracy)
    left.margins(y=0.15)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw(
    axis: Axes, rows: Sequence[LatencyRow], values: Sequence[float], recalls: Sequence[float]
) -> None:
    for place, name in enumerate(dict.fromkeys(map(_model, rows))):
        every = zip(rows, values, recalls, strict=True)
        points = [point for point in every if _model(point[0]) == name]
        points.sort(key=lambda point: point[0].nbytes)
        color = f"C{place % 10}"
        axis.plot([x for _, x, _ in points], [y for *_, y in points], color=color, alpha=0.4)
        for row, x, y in points:
            mark = MARKS.get(row.dtype, "x")
            axis.plot(x, y, mark, color=color, markersize=7, label=row.model)


def _model(row: LatencyRow) -> str:
    return row.model.removesuffix(row.dtype).rstrip(" ,")


def _number_ticks(axis: Axes) -> None:
    """Plain numbers, at so many places that they don't meet."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.margins(x=0.1)
    low, high = axis.get_xlim()
    subs = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
    axis.xaxis.set_major_locator(LogLocator(subs=subs))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.minorticks_off()
