"""Popularity bias as a section of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from pyg_kd.evaluation import PopularityBias
from pyg_kd.evaluation.intervals import Interval, t_interval
from pyg_kd.study.insight.slices import _file_name
from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TEXT = """\
*Lift* is by how much the items of the lists are more popular than those of the histories; *head*
and *tail* are the shares of the lists that the most popular items and the long tail take, each a
fifth of all interactions. *Calibration* is the divergence, in bits, of a list's mix of head, middle
and tail from that of its user's history: 0 is best. *Amplified* is by how much the lift exceeds
the teacher's, user by user.
"""

#: Columns and what they hold.
COLUMNS = {
    "Lift": "lift",
    "Head": "head",
    "Tail": "tail",
    "Coverage": "coverage",
    "Gini": "gini",
    "Novelty, bits": "novelty",
    "Calibration": "miscalibration",
}

#: Of each row, the runs of its seeds.
Runs = Mapping[str, PopularityBias | Sequence[PopularityBias]]


def bias_section(
    rows: Runs, title: str = "Popularity bias", *, teacher: str | None = None
) -> Section:
    r"""A section of a report: how popular each model's lists are, beside its teacher's.

    Args:
        rows: What :func:`~pyg_kd.evaluation.popularity_bias` returned, by name of the model; of
            several seeds, a list.
        title: The heading, from which the figure has its name.
        teacher: The name of the teacher, for the difference from it.

    Raises:
        ValueError: If ``teacher`` is not among the rows.
    """
    runs = {name: _listed(given) for name, given in rows.items()}
    if teacher is not None and teacher not in runs:
        raise ValueError(f"'teacher' must be one of {[*runs]} (got {teacher!r})")
    header = ["Model", *COLUMNS] + (["Amplified", "95 % interval"] if teacher else [])
    cells: list[list[Cell]] = []
    for name, of in runs.items():
        line: list[Cell] = [name, *(mean(getattr(run, c) for run in of) for c in COLUMNS.values())]
        if teacher is not None:
            more, ends = (None, None) if name == teacher else amplification(of, runs[teacher])
            line += [more, "" if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"]
        cells.append(line)
    lifts = {name: mean(run.lift for run in of) for name, of in runs.items()}
    figure = Figure(
        _file_name(title),
        lambda canvas: draw_lifts(lifts, teacher, canvas),
        "Popularity lift of the lists; the line is the teacher's."
        if teacher
        else "Popularity lift of the lists.",
        "Bars: by how much the listed items of each model are more popular than its users' own.",
        size=(7.0, 1.2 + 0.35 * len(lifts)),
    )
    return Section(title, TEXT, [Table(header, cells, "Popularity of what is listed")], [figure])


def amplification(
    student: PopularityBias | Sequence[PopularityBias],
    teacher: PopularityBias | Sequence[PopularityBias],
) -> tuple[float, Interval | None]:
    r"""By how much a student's popularity lift exceeds its teacher's, and the interval over users.

    .. math::
        \frac{1}{U} \sum_u \frac{\bar\phi(L^s_u) - \bar\phi(L^t_u)}{\mathrm{GAP}(H)}

    with the mean over seeds for each user.

    Args:
        student: What :func:`~pyg_kd.evaluation.popularity_bias` returned; of several seeds, a
            list.
        teacher: The same of the teacher.

    Raises:
        ValueError: If the users differ.
    """
    first, other = _listed(student), _listed(teacher)
    if any(run.user.tolist() != first[0].user.tolist() for run in [*first, *other]):
        raise ValueError("'teacher' must be of the users of 'student' (got others)")
    own, taught = (
        sum(run.values["popularity"] for run in runs) / len(runs) for runs in (first, other)
    )
    values = ((own - taught) / first[0].values["history"].mean()).cpu().numpy()
    return float(values.mean()), t_interval(values)


def draw_lifts(lifts: Mapping[str, float], teacher: str | None, figure: Canvas) -> None:
    """A bar for each row."""
    axes = figure.subplots()
    place = range(len(lifts) - 1, -1, -1)
    colours = ["C1" if name == teacher else "C0" for name in lifts]
    axes.barh(list(place), list(lifts.values()), 0.62, color=colours)
    if teacher is not None:
        axes.axvline(lifts[teacher], lw=1, ls="--", color="#8c8c8c")
    axes.axvline(0, lw=1, color="#8c8c8c")
    axes.set_yticks(list(place), list(lifts))
    axes.set_xlabel("popularity lift")


def _listed(given: PopularityBias | Sequence[PopularityBias]) -> list[PopularityBias]:
    return [given] if isinstance(given, PopularityBias) else list(given)
