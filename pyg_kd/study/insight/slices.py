"""Slices as a section of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pyg_kd.evaluation import SliceTable
from pyg_kd.evaluation.intervals import Interval
from pyg_kd.evaluation.slice_table import ALL
from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TEXT = """\
*Retention* is the student's mean over the reference's, over the users of a slice; its interval is
Fieller's, paired by user, and open where the reference may be zero. Items are sliced by targets:
the recall of a class of items is the share of a user's targets from this class that its list holds.
"""


def slices_section(
    tables: Mapping[str, SliceTable] | Iterable[SliceTable],
    title: str = "Slices",
    *,
    reference: str = "teacher",
) -> Section:
    r"""A section of a report: a table for each grouping, and where most is lost.

    Args:
        tables: What :func:`~pyg_kd.evaluation.slices` returned, or such tables.
        title: The heading, from which the figure has its name.
        reference: What the reference is.
    """
    found = list(tables.values()) if isinstance(tables, Mapping) else list(tables)
    compared = [table for table in found if table.rows[0].retention is not None]
    text = TEXT + "".join(f"\n- {worst_of(table, reference)}" for table in compared)
    figures = []
    if compared:
        figures.append(
            Figure(
                _file_name(title),
                lambda figure: draw_retention(compared, figure),
                f"Retention by slice, with 95 % intervals; the {reference} is 1.",
                f"Points with intervals: the share of the {reference}'s metric that is kept in "
                "each slice.",
                size=(7.0, 1.2 + 0.3 * sum(len(table.rows) for table in compared)),
            )
        )
    return Section(title, text, [_table(table, reference) for table in found], figures)


def worst_of(table: SliceTable, reference: str = "teacher") -> str:
    """A sentence about the slice where most is lost."""
    worst, every = table.worst, table.rows[0]
    if worst.retention is None or every.retention is None:
        return f"By {table.title}, the {reference} finds nothing."
    return (
        f"By {table.title}, least is kept in *{worst.name}*: {100 * worst.retention:.0f} % of the "
        f"{reference}'s {table.metric} ({_ends(worst.retention_interval, 2)}), "
        f"{100 * every.retention:.0f} % in *{every.name}*."
    )


def draw_retention(tables: list[SliceTable], figure: Canvas) -> None:
    """Retention of every slice, from the top to the bottom."""
    axes = figure.subplots()
    rows = [(table, row) for table in tables for row in table if row.retention is not None]
    place = np.arange(len(rows))[::-1]
    for y, (table, row) in zip(place, rows, strict=True):
        colour = "C7" if row.name == ALL else f"C{tables.index(table)}"
        ends = row.retention_interval
        if ends is not None and np.isfinite(ends).all():
            axes.plot(ends, [y, y], color=colour, lw=2)
        axes.plot([row.retention or 0.0], [y], "o", color=colour)
    axes.axvline(1, lw=1, ls=":", color="#8c8c8c")
    axes.set_yticks(place, [f"{table.title}: {row.name}" for table, row in rows])
    axes.set_xlabel("retention")


def _table(table: SliceTable, reference: str) -> Table:
    header = [table.title.capitalize(), "Users", table.metric, "95 % interval"]
    full = table.rows[0].reference is not None
    header += [reference.capitalize(), "Retention", "95 % interval"] if full else []
    rows: list[list[Cell]] = []
    for row in table:
        cells: list[Cell] = [row.name, row.users]
        cells += [row.value if row.users else None, _ends(row.interval, 4)]
        if full:
            cells += [row.reference, row.retention, _ends(row.retention_interval, 3)]
        rows.append(cells)
    return Table(header, rows, f"{table.metric} by {table.title}")


def _ends(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return ""
    if not np.isfinite(interval).all():
        return "open"
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _file_name(title: str) -> str:
    """The name of a figure's file.

    Example:
        >>> _file_name("Slices: CiteULike, test")
        'slices-citeulike-test'
    """
    plain = "".join(c if c.isascii() and c.isalnum() else " " for c in title.lower())
    return "-".join(plain.split()) or "slices"
