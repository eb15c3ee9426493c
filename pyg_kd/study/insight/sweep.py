"""A sweep as a section of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyg_kd.study.insight.slices import _file_name
from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell
from pyg_kd.study.sweeps import Sweep, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def sweep_section(found: Sweep, title: str = "") -> Section:
    r"""A section of a report: what is kept at each value, what it costs, and where it breaks.

    Args:
        found: What :func:`~pyg_kd.study.sweeps.sweep` returned.
        title: The heading, from which the figure has its name.
    """
    title = title or f"Sweep of the {found.name}"
    rows: list[list[Cell]] = []
    for point in found:
        ends = point.interval
        text = (
            "" if ends is None or not np.isfinite(ends).all() else f"{ends[0]:.3f} to {ends[1]:.3f}"
        )
        rows.append(
            [f"{point.value:g}", point.metric, point.retention, text,
             round(point.cpu_seconds, 1), point.size_bytes]
        )  # fmt: skip
    header = [found.name.capitalize(), found.metric, "Retention", "95 % interval", "CPU s", "Bytes"]
    figure = Figure(
        _file_name(title),
        lambda canvas: draw_sweep(found, canvas),
        f"Retention by {found.name}; dotted: {100 * found.threshold:.0f} % of the reference.",
        f"A curve of retention over the {found.name}, with 95 % intervals.",
    )
    return Section(title, verdict(found), [Table(header, rows)], [figure])


def draw_sweep(found: Sweep, figure: Canvas) -> None:
    """The curve with its intervals, the threshold, and where it is crossed."""
    axes = figure.subplots()
    x, y = np.array(found.values), np.array(found.retention)
    ends = np.array([p.interval or (np.nan, np.nan) for p in found], float)
    ends[~np.isfinite(ends)] = np.nan
    axes.fill_between(x, ends[:, 0], ends[:, 1], alpha=0.25, color="C0", lw=0)
    axes.plot(x, y, "o-", color="C0")
    axes.axhline(found.threshold, ls=":", lw=1, color="#8c8c8c")
    for end in found.range or ():
        if 0 < end < np.inf:
            axes.axvline(end, ls="--", lw=1, color="C1")
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.set_xlabel(found.name)
    axes.set_ylabel("retention")
