"""A search as a table and figures."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, Any

from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell
from pyg_kd.study.tuning.trials import COMPLETE, FAILED, PRUNED, Tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Slices beside each other.
COLUMNS = 3


def tuning_section(found: dict[str, Tuning], title: str = "Tuning") -> Section:
    r"""Searches side by side: what was tried, and what came of it.

    Args:
        found: The searches by name, such as ``"student"`` and ``"student alone"``; each with a
            complete trial.
        title: The heading.

    Raises:
        ValueError: If there is no search, or one has no complete trial.

    Example:
        >>> from pyg_kd.study.tuning import Range, search
        >>> space = {"lr": Range(0.01, 0.001, 0.1)}
        >>> options = {"metric": "recall@20", "minutes": 1, "trials": 2, "progress": False}
        >>> found = search(lambda setting, report: setting["lr"], space, **options)
        >>> tuning_section({"student": found}).tables[0].rows[0][:3]
        ['student', 2, 0.01]
    """
    if not found:
        raise ValueError(f"'found' must hold a search or more (got {found!r})")
    rows: list[list[Cell]] = [
        [
            name,
            len(tuning.trials),
            tuning.default.value if tuning.default else None,
            tuning.best.value,
            ", ".join(f"{k} {_text(v)}" for k, v in tuning.best.setting.items()),
        ]
        for name, tuning in found.items()
    ]
    metric = next(iter(found.values())).metric
    header = ["Model", "Trials", f"{metric}, recipe", f"{metric}, best", "Best setting"]
    tables = [Table(header, rows, "On the validation targets")]
    tables += [_trials(name, tuning) for name, tuning in found.items()]
    return Section(title, _told(found), tables, [_progress(found), *_every_slice(found)])


def edge_warning(name: str, found: Tuning) -> str | None:
    """What to say where a best value lies at the end of its range."""
    if not found.edges:
        return None
    values = [f"{edge}={_text(found.best.setting[edge])}" for edge in found.edges]
    return (
        f"{name}: the best {' and '.join(values)} lies at the edge of what was searched: start "
        "from it, and search again"
    )


def draw_trials(found: dict[str, Tuning], figure: Canvas) -> None:
    """Validation values against trials, with the best so far."""
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    for place, (name, tuning) in enumerate(found.items()):
        color, done = f"C{place}", tuning.complete
        numbers = [trial.number for trial in done]
        values = [trial.value or 0.0 for trial in done]
        axes.scatter(numbers, values, color=color, s=22, label=name)
        best, last = list(accumulate(values, max)), tuning.trials[-1].number
        axes.step([*numbers, last], [*best, best[-1]], where="post", color=color, lw=1.4)
        # What was ended early has no value to compare: at the foot of the figure.
        early = [trial.number for trial in tuning.trials if trial.state != COMPLETE]
        foot = axes.get_xaxis_transform()
        height = [0.02 + 0.03 * place] * len(early)
        axes.scatter(early, height, transform=foot, edgecolors=color, facecolors="none", s=16)
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Trial (0 is the recipe)")
    axes.set_ylabel(f"Validation {next(iter(found.values())).metric}")
    axes.legend(loc="best")


def draw_slices(tuning: Tuning, figure: Canvas) -> None:
    """Validation values against each of the values that were searched."""
    names = [*tuning.space]
    columns = min(COLUMNS, len(names))
    grid: Any = figure.subplots(ceil(len(names) / columns), columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for name, axes in zip(names, grid.flat, strict=False):
        _slice(tuning, name, axes)
    for row in grid:
        row[0].set_ylabel(f"Validation {tuning.metric}")


def _slice(tuning: Tuning, name: str, axes: Axes) -> None:
    done = tuning.complete
    numbers, values = [t.numbers[name] for t in done], [t.value or 0.0 for t in done]
    axes.scatter(numbers, values, c=[t.number for t in done], cmap="viridis", s=22)
    best = tuning.best
    axes.scatter([best.numbers[name]], [best.value or 0.0], marker="*", color="C1", s=110)
    found = tuning.space[name]
    axes.set_xscale("log")
    axes.set_xlim(found.low / 1.2, found.high * 1.2)
    ticks = [found.low, (found.low * found.high) ** 0.5, found.high]
    axes.set_xticks(ticks, ["0" if found.zero else f"{found.low:.2g}", *_short(ticks[1:])])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(name)


def _short(values: list[float]) -> list[str]:
    return [f"{value:.2g}" for value in values]


def _trials(name: str, tuning: Tuning) -> Table:
    header = ["Trial", *tuning.space, tuning.metric, "Seconds", "State"]
    rows: list[list[Cell]] = [
        [
            f"{trial.number}{' (recipe)' if trial.number == 0 else ''}",
            *(_text(trial.setting[key]) for key in tuning.space),
            trial.value,
            f"{trial.seconds:.1f}",
            trial.state,
        ]
        for trial in tuning.trials
    ]
    return Table(header, rows, f"Trials of the {name}")


def _told(found: dict[str, Tuning]) -> str:
    parts = []
    for name, tuning in found.items():
        counts = {
            state: sum(trial.state == state for trial in tuning.trials)
            for state in (COMPLETE, PRUNED, FAILED)
        }
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        parts.append(f"The *{name}* was tuned for {tuning.seconds / 60:.1f} minutes: {told}.")
    parts += [f"{text}." for n, t in found.items() if (text := edge_warning(n, t)) is not None]
    return "\n\n".join(parts)


def _progress(found: dict[str, Tuning]) -> Figure:
    ends = ", ".join(f"{name} {tuning.best.value:.4f}" for name, tuning in found.items())
    return Figure(
        "tuning-trials",
        partial(draw_trials, found),
        "Validation values of the trials, and the best so far. Circles at the foot ended early.",
        f"Validation values against trials; the best are {ends}.",
    )


def _every_slice(found: dict[str, Tuning]) -> list[Figure]:
    return [
        Figure(
            f"tuning-slices-{place}",
            partial(draw_slices, tuning),
            f"Values of each trial of the *{name}*: dark ones came first, the star is the best.",
            f"Validation against each value searched; best of the {name}: "
            + ", ".join(f"{k} {_text(v)}" for k, v in tuning.best.setting.items()),
            (9.0, 2.8 * ceil(len(tuning.space) / COLUMNS)),
        )
        for place, (name, tuning) in enumerate(found.items())
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "(" + ", ".join(f"{part:.3g}" for part in value) + ")"
    return f"{value:.3g}"
