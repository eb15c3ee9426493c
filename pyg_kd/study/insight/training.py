"""A teacher's verdict, and the diagnostics of a run, as sections of a report."""

from __future__ import annotations

from pyg_kd.study.insight.slices import _file_name
from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell
from pyg_kd.training.diagnostics import TeacherVerdict, plot_diagnostics
from pyg_kd.training.diagnostics.figure import panels
from pyg_kd.training.history import History

TEXT = """\
Agreement of lists and of spaces is with the teacher. *Conflict* is the cosine between the
gradients of the base loss and of the method, below 0 where they pull apart; *pull* is the norm of
the method's weighted gradient over that of the base loss. The effective rank tells how many
directions the representations use, and experts and groups are counted as if they were equally
large.
"""


def teacher_section(verdict: TeacherVerdict, title: str = "Is the teacher worth it?") -> Section:
    r"""A section of a report: the teacher beside what costs next to nothing.

    Args:
        verdict: What :func:`~pyg_kd.training.diagnostics.diagnose_teacher` returned.
        title: The heading.
    """
    rows: list[list[Cell]] = [["teacher", verdict.value, None, "", ""]]
    for one in verdict.opponents:
        ends = "" if one.interval is None else "{:+.4f} to {:+.4f}".format(*one.interval)
        rows.append([one.name, one.value, one.difference, ends, one.verdict])
    header = ["Model", verdict.metric, "Teacher's lead", "95 % interval", "Verdict"]
    caption = f"Validation targets of {verdict.users:,} users"
    return Section(title, " ".join(verdict.notes), [Table(header, rows, caption)])


def diagnostics_section(history: History, title: str = "Diagnostics") -> Section:
    r"""A section of a report: how training went, at its first and last measurement.

    Args:
        history: What ``fit`` returned, with a
            :class:`~pyg_kd.training.diagnostics.Diagnostics` among the callbacks.
        title: The heading, from which the figure has its name.

    Raises:
        ValueError: If the history has no diagnostics.
    """
    found = panels(history)
    if not found:
        raise ValueError(f"'history' must have columns of Diagnostics (got {history.columns})")
    rows: list[list[Cell]] = [
        [name, history[name][0], history[name][-1]] for names in found.values() for name in names
    ]
    figure = Figure(
        _file_name(title),
        lambda canvas: plot_diagnostics(history, canvas),
        "Diagnostics over the epochs.",
        f"Curves over the epochs, in panels: {', '.join(found)}.",
        size=(10.0, 3.2 * -(-len(found) // 3)),
    )
    warnings = "".join(f"\n- {line}" for line in remarks(history))
    return Section(title, TEXT + warnings, [Table(["Value", "First", "Last"], rows)], [figure])


def remarks(history: History) -> list[str]:
    """What stands out in a history, a sentence each.

    Example:
        >>> remarks(History([{"epoch": 0, "effective rank user": 1.2}]))
        ['Representations of users have collapsed to 1.2 directions.']
    """
    found = []
    for name in [name for names in panels(history).values() for name in names]:
        last, (kind, _, rest) = history[name][-1], name.partition(" ")
        if kind == "conflict" and last < CONFLICT:
            found.append(
                f"The gradient of {rest} ends against that of the base loss (cosine {last:.2f}): "
                "its weight decides which one wins."
            )
        elif kind == "pull" and last < WEAK:
            found.append(f"{rest} hardly pulls ({last:.1e} of the base loss): raise its weight.")
        elif name.startswith("effective rank") and last < COLLAPSED:
            found.append(
                f"Representations of {name.split()[-1]}s have collapsed to {last:.1f} directions."
            )
        elif kind in ("experts", "groups") and last < 0.5 * history[name][0]:
            method, node_type = rest.rsplit(" ", 1)
            found.append(
                f"Of the {kind} of {method} for {node_type}s more than half went out of use."
            )
    return found


#: Below which cosine gradients are said to conflict.
CONFLICT = -0.2

#: Below which share of the base loss's gradient a method hardly teaches.
WEAK = 1e-3

#: Below which effective rank a space is said to have collapsed.
COLLAPSED = 2.0
