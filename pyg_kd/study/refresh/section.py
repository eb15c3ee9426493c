"""Refresh policies as a section of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyg_kd.study.refresh.report import GROUPS, RefreshReport
from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TEXT = """\
All policies start from one teacher and one student of the base block. After every block a policy
may refresh them, and what it serves then is measured on the *next* block, which nothing has seen.
*Average so far* is the same metric on interactions that were held out of all blocks up to now;
*harmonic* is the harmonic mean of both. *Forgotten* is how far the metric on earlier blocks has
fallen from its best. Costs are CPU seconds of a refresh, without measuring. Intervals draw
users, each with all its values."""


def refresh_section(report: RefreshReport, title: str = "Refresh policies") -> Section:
    r"""A section of a report: text, the tables and two figures.

    Args:
        report: What :func:`~pyg_kd.study.refresh.run_refresh` returned.
        title: The heading, from which figures have their names.
    """
    tables = [_summary(report), _steps(report), _groups(report)]
    if report.staleness():
        tables.append(_staleness(report))
    return Section(title, TEXT, tables, _figures(report, title))


def _summary(report: RefreshReport) -> Table:
    header = [
        "Policy", f"New {report.metric}", "Deviation", "Gain", "95 % interval", "Average so far",
        "Harmonic", "Forgotten", "CPU s", "Undominated",
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for row in report.summary():
        interval = "" if row.interval is None else "{:+.4f} to {:+.4f}".format(*row.interval)
        rows.append([
            row.policy, row.new, row.new_sd, row.gain, interval, row.average, row.harmonic,
            row.forgetting, round(row.seconds, 2), "yes" if row.undominated else "",
        ])  # fmt: skip
    seeds = "one seed" if len(report.seeds) == 1 else f"{len(report.seeds)} seeds"
    caption = f"Means over {len(report.refreshes)} refreshes and {seeds}"
    return Table(header, rows, caption)


def _steps(report: RefreshReport) -> Table:
    steps = range(len(report.counts))
    header = ["Policy", *(f"Block {step + 1}" for step in steps)]
    rows: list[list[Cell]] = [
        [policy, *(report.mean(report.new, policy, step) for step in steps)]
        for policy in report.policies
    ]
    for name in ("targets", "new users", "new items"):
        rows.append([f"*{name}*", *(report.counts[step][name] for step in steps)])
    caption = f"{report.metric} on each block, by what was known before it"
    return Table(header, rows, caption)


def _groups(report: RefreshReport) -> Table:
    header = ["Policy", *(f"{side} {g}" for side in ("Users", "Items") for g in GROUPS)]
    rows: list[list[Cell]] = [
        [policy, *(value for value, _ in report.groups(policy).values())]
        for policy in report.policies
    ]
    counts = report.groups(report.policies[0]).values()
    rows.append(["*values*", *(count for _, count in counts)])
    caption = (
        "By when users and items came: with a message in the base block, since, or not yet. New "
        "users get the most popular items; new items are not listed. *Values* are users, counted "
        "at each refresh and seed at which they have such targets"
    )
    return Table(header, rows, caption)


def _staleness(report: RefreshReport) -> Table:
    rows: list[list[Cell]] = [
        [str(row["age"]), row["student"], row["teacher"], row["pairs"]]
        for row in report.staleness()
    ]
    caption = f"{report.metric} lost with age against a model trained just before the block"
    return Table(["Age in blocks", "Student", "Teacher", "Pairs"], rows, caption)


def _figures(report: RefreshReport, title: str) -> list[Figure]:
    name = "".join(c if c.isalnum() else "-" for c in title.lower())
    rows = report.summary()
    best, least = max(rows, key=lambda row: row.new), min(rows, key=lambda row: row.new)
    return [
        Figure(
            f"{name}-blocks",
            lambda figure: draw_blocks(figure, report),
            f"{report.metric} on the next block, by policy",
            f"Lines over blocks: {best.policy} is highest in the mean, {least.policy} lowest.",
        ),
        Figure(
            f"{name}-cost",
            lambda figure: draw_cost(figure, report),
            "What a refresh costs and brings; the line joins policies that no other one beats",
            "Points of policies: "
            + "; ".join(f"{row.policy} {row.seconds:.1f} CPU s, {row.new:.3f}" for row in rows)
            + ".",
        ),
    ]


def draw_blocks(figure: Canvas, report: RefreshReport) -> None:
    """Draw a line for each policy over the blocks."""
    axes = figure.subplots()
    steps = range(len(report.counts))
    for number, policy in enumerate(report.policies):
        values = [report.mean(report.new, policy, step) or 0.0 for step in steps]
        axes.plot(
            [step + 1 for step in steps], values, marker="o", color=f"C{number}", label=policy
        )
    axes.set_xticks([step + 1 for step in steps])
    axes.set_xlabel("block")
    axes.set_ylabel(report.metric)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_cost(figure: Canvas, report: RefreshReport) -> None:
    """Draw a point for each policy, and the line of those that are not dominated."""
    axes = figure.subplots()
    rows = report.summary()
    front = sorted((row.seconds, row.new) for row in rows if row.undominated)
    axes.plot(*zip(*front, strict=True), color="C7", linewidth=1, zorder=0, linestyle="--")
    for number, row in enumerate(rows):
        axes.scatter([row.seconds], [row.new], color=f"C{number}", label=row.policy)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_xlabel("CPU seconds of a refresh")
    axes.set_ylabel(f"{report.metric} on the next block")
