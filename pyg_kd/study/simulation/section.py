"""Simulated experiments as a part of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.simulation.ab import ABResult
from pyg_kd.study.simulation.experiment import Experiment
from pyg_kd.study.simulation.feedback import Week

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

LIMITS = (
    "Visitors are simulated: their tastes are those of a synthetic world, they click as the click "
    "model says, and nothing else moves them. The experiments are real ones, and the intervals "
    "what they would be; the size of a lift is the world's, and not that of any real service."
)


def experiment_section(
    experiment: Experiment, title: str = "Online experiments, simulated"
) -> Section:
    """What :func:`~pyg_kd.study.simulation.simulate` found, in tables and a figure."""
    assumed = "; ".join(f"{name}: {value}" for name, value in experiment.assumptions.items())
    text = (
        f"{LIMITS}\n\n{experiment.visitors:,} visitors in each experiment, half of them with "
        f"*{experiment.control}*, the control. Assumed: {assumed}."
    )
    return Section(
        title,
        text,
        tables=[_lifts(experiment), _needed(experiment)],
        figures=[_intervals(experiment)],
    )


def feedback_section(
    worlds: Mapping[str, Sequence[Week]], title: str = "Feedback over weeks"
) -> Section:
    """How clicks and concentration went in worlds that different models served.

    Args:
        worlds: What :func:`~pyg_kd.study.simulation.feedback_loop` returned, by name.
        title: The heading.

    Raises:
        ValueError: If there is no world, or one has no weeks.
    """
    if not worlds or not all(worlds.values()):
        raise ValueError(f"'worlds' must hold weeks by name (got {dict(worlds)!r:.60})")
    header = ["Served by", "Clicks a visit", "Gini served", "Gini of the graph", "Coverage", "Head"]
    rows = []
    for name, weeks in worlds.items():
        pairs = [
            (getattr(weeks[0], key), getattr(weeks[-1], key))
            for key in ("clicks", "gini_served", "gini_known", "coverage", "head")
        ]
        rows.append([name, *(f"{first:.3f} → {last:.3f}" for first, last in pairs)])
    count = len(next(iter(worlds.values())))
    caption = (
        f"The first of {count} weeks → the last. Head: impressions of the 10 % most popular items."
    )
    return Section(title, tables=[Table(header, rows, caption)], figures=[_weeks(worlds)])


def _lifts(experiment: Experiment) -> Table:
    header = ["Treatment", "True lift", "A/B", "A/B, CUPED", "Clicks per visit", "Interleaving"]
    rows = [
        [
            one.name,
            f"{one.true_lift:+.1%}",
            *(_cell(test) for test in (one.plain, one.cuped, one.ratio)),
            f"{one.interleaving.effect:+.3f} ({_p(one.interleaving.p_value)})",
        ]
        for one in experiment.outcomes
    ]
    return Table(
        header,
        rows,
        "Lift of the clicks of a visitor with its 95 % interval, and clicks per visit as a ratio. "
        "Interleaving: clicks of a visitor on the treatment's items less those on the control's.",
    )


def _needed(experiment: Experiment) -> Table:
    kinds = ("A/B", "A/B, CUPED", "interleaving")
    rows = [[one.name, *(one.needed.get(kind) for kind in kinds)] for one in experiment.outcomes]
    return Table(
        ["Treatment", *kinds],
        rows,
        "Visitors needed to find the difference with a power of 80 % at a level of 5 %.",
    )


def _intervals(experiment: Experiment) -> Figure:
    def draw(figure: Canvas) -> None:
        axes = figure.subplots()
        names = [one.name for one in experiment.outcomes]
        for shift, kind, label in ((-0.12, "plain", "A/B"), (0.12, "cuped", "A/B, CUPED")):
            tests: list[ABResult] = [getattr(one, kind) for one in experiment.outcomes]
            lift = [100 * test.lift for test in tests]
            ends = [[100 * abs(t.lift_interval[i] - t.lift) for t in tests] for i in (0, 1)]
            place = [row + shift for row in range(len(names))]
            axes.errorbar(lift, place, xerr=ends, fmt="o", capsize=3, label=label)
        truth = [100 * one.true_lift for one in experiment.outcomes]
        axes.plot(truth, range(len(names)), "x", color="C3", label="truth")
        axes.axvline(0, linewidth=0.8, color="C7")
        axes.set_yticks(range(len(names)), names)
        axes.margins(y=0.3)
        axes.set_xlabel(f"lift over {experiment.control}, %")
        axes.legend()

    said = "; ".join(
        f"{one.name}: true lift {one.true_lift:+.1%}, estimated {one.cuped.lift:+.1%}"
        for one in experiment.outcomes
    )
    height = 1.6 + 0.6 * len(experiment.outcomes)
    caption = "Lifts with 95 % intervals, and the truth."
    return Figure("simulated-lifts", draw, caption, f"Intervals of lifts. {said}", (7.0, height))


def _weeks(worlds: Mapping[str, Sequence[Week]]) -> Figure:
    def draw(figure: Canvas) -> None:
        axes = figure.subplots(1, 3)
        kinds = ("clicks", "gini_served", "gini_known")
        labels = ("clicks a visit", "Gini, served", "Gini, graph")
        for ax, key, label in zip(axes, kinds, labels, strict=True):
            for name, weeks in worlds.items():
                ax.plot([w.week + 1 for w in weeks], [getattr(w, key) for w in weeks], label=name)
            ax.set_xlabel("week")
            ax.set_title(label)
        lines, names = axes[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=len(worlds))

    said = "; ".join(
        f"{name}: Gini of what is served {weeks[0].gini_served:.2f} at first and "
        f"{weeks[-1].gini_served:.2f} at last"
        for name, weeks in worlds.items()
    )
    caption = "Clicks and concentration, week by week."
    return Figure("feedback-weeks", draw, caption, f"Three panels of lines. {said}", (9.0, 3.4))


def _cell(test: ABResult) -> str:
    low, high = test.lift_interval
    return f"{test.lift:+.1%} ({low:+.1%} to {high:+.1%}; {_p(test.p_value)})"


def _p(value: float) -> str:
    return "p < .001" if value < 0.001 else f"p = {value:.3f}"
