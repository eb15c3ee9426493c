"""An ablation as a part of a report."""

from __future__ import annotations

from functools import partial

from pyg_kd.study.ablation.drawing import draw_interactions, draw_shares
from pyg_kd.study.ablation.effects import Ablation, Effect
from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell

#: What the controls show, by name.
TEACHERS = {
    "shuffled": "a shuffled teacher, which tells each user what it knows of another,",
    "popularity": "popularity in place of a teacher",
    "self": "a teacher of the student's own width, trained as the student is alone,",
    "none": "the same loss without a teacher",
}


def ablation_section(
    found: Ablation, title: str = "Ablation", *, name: str = "ablation", base: str = "no component"
) -> Section:
    r"""An ablation as tables and figures.

    Args:
        found: The ablation.
        title: The heading.
        name: Beginning of the names of the figures, unique in a report.
        base: What the row without components is called.

    Example:
        >>> import torch
        >>> row = {seed: torch.rand(9) for seed in range(2)}
        >>> higher = {seed: values + 0.1 for seed, values in row.items()}
        >>> rows = {frozenset(): row, frozenset({"DE"}): higher}
        >>> from pyg_kd.study.ablation import ablate
        >>> section = ablation_section(ablate(["DE"], rows, metric="recall@20"))
        >>> [table.caption.partition(":")[0] for table in section.tables]
        ['All subsets of the components', 'What each component contributes to recall@20']
    """
    tables = [_subsets(found, base), _contributions(found)]
    figures = [_shares(found, f"{name}-shares", base)]
    if found.interactions:
        tables.append(_interactions(found))
    if len(found.interactions) > 1:  # one alone is no map
        figures.append(_heat_map(found, f"{name}-interactions"))
    if found.controls:
        tables.append(_controls(found))
    return Section(title, _text(found, base), tables, figures)


def span(effect: Effect) -> str:
    """A value with its interval.

    Example:
        >>> span(Effect(0.01234, (-0.001, 0.02)))
        '+0.0123 (-0.0010, +0.0200)'
    """
    low, high = effect.interval
    return f"{effect.value:+.4f} ({low:+.4f}, {high:+.4f})"


def share(effect: Effect) -> str:
    """A share of the gain with its interval.

    Example:
        >>> share(Effect(0.1, (0.0, 0.2), 0.5, (0.0, 1.0)))
        '50 % (0, 100)'
    """
    if effect.share is None or effect.share_interval is None:
        return "no gain to share"
    low, high = effect.share_interval
    if not low > -float("inf"):
        return f"{100 * effect.share:.0f} % (unbounded)"
    return f"{100 * effect.share:.0f} % ({100 * low:.0f}, {100 * high:.0f})"


def row_name(found: Ablation, subset: frozenset[str], base: str) -> str:
    """The name of a subset, its components in their order."""
    return " + ".join(name for name in found.components if name in subset) or base


def _text(found: Ablation, base: str) -> str:
    seeds = "one seed" if found.num_seeds == 1 else f"{found.num_seeds} seeds"
    parts = [
        f"All {2 ** len(found.components)} subsets of {len(found.components)} components were "
        f"trained, at {seeds}, and measured by {found.metric} of {found.num_users:,} users. "
        f"Together the components add {span(found.total)} to *{base}*. Intervals are of 95 %, by a "
        f"bootstrap over users{'' if found.num_seeds == 1 else ' and seeds'}."
    ]
    low, high = found.total.interval
    if low <= 0 <= high:
        parts.append(
            "That gain may be none at all, so shares of it are not bounded: read the contributions "
            "in the metric's own units."
        )
    ahead = max(found.shapley, key=lambda name: found.shapley[name].value)
    parts.append(
        f"The Shapley value of a component is what it adds, on average over all orders of adding. "
        f"Values add up to the total. The largest is that of *{ahead}*, "
        f"{span(found.shapley[ahead])}."
    )
    clear = [
        pair for pair, e in found.interactions.items() if e.interval[0] > 0 or e.interval[1] < 0
    ]
    if clear:
        told = [
            f"*{one}* and *{other}* "
            f"{'help each other' if found.interactions[one, other].value > 0 else 'overlap'}"
            for one, other in clear
        ]
        parts.append(f"By their interaction, {', '.join(told)}.")
    elif found.interactions:
        parts.append("No interaction of two components differs from zero.")
    if found.controls:
        told = [
            f"{TEACHERS.get(name, name)} adds {span(effect)}"
            f"{f', {share(effect)} of the gain' if low > 0 else ''}"
            for name, effect in found.controls.items()
        ]
        parts.append(f"In the controls, {'; '.join(told)}.")
    return "\n\n".join(parts)


def _subsets(found: Ablation, base: str) -> Table:
    least = found.subsets[frozenset()].value
    rows = [
        [
            row_name(found, subset, base),
            effect.value,
            f"{effect.interval[0]:.4f} to {effect.interval[1]:.4f}",
            f"{effect.value - least:+.4f}" if subset else None,
        ]
        for subset, effect in sorted(found.subsets.items(), key=lambda kept: len(kept[0]))
    ]
    header = ["Components", found.metric or "Metric", "95 % interval", f"Over {base}"]
    return Table(header, rows, "All subsets of the components")


def _contributions(found: Ablation) -> Table:
    rows: list[list[Cell]] = [
        [
            name,
            span(found.shapley[name]),
            share(found.shapley[name]),
            span(found.add_one_in[name]),
            span(found.leave_one_out[name]),
        ]
        for name in found.components
    ]
    rows.append(["all", span(found.total), share(found.total), None, None])
    header = ["Component", "Shapley value", "Share of the gain", "Alone", "Lost without it"]
    return Table(header, rows, f"What each component contributes to {found.metric or 'the metric'}")


def _interactions(found: Ablation) -> Table:
    rows = [[f"{one} × {other}", span(e)] for (one, other), e in found.interactions.items()]
    return Table(
        ["Components", "Shapley interaction index"],
        rows,
        "Pairs: above zero they add more together than each without the other",
    )


def _controls(found: Ablation) -> Table:
    rows = [[name, span(e), share(e)] for name, e in found.controls.items()]
    rows.append(["the teacher", span(found.total), share(found.total)])
    return Table(
        ["In place of the teacher", "Gain", "Share of the gain"],
        rows,
        "Controls: what all components add without the teacher's knowledge",
    )


def _shares(found: Ablation, name: str, base: str) -> Figure:
    told = ", ".join(f"{c} {found.shapley[c].value:+.4f}" for c in found.components)
    controls = ", ".join(f"{c} teacher {e.value:+.4f}" for c, e in found.controls.items())
    return Figure(
        name,
        partial(draw_shares, found),
        f"Shapley values of the components, which add up to the gain over *{base}*"
        f"{', and what controls gain' if controls else ''}, with 95 % intervals.",
        f"Bars of what each component adds to {found.metric}: {told}; all {found.total.value:+.4f}"
        f"{'; ' + controls if controls else ''}.",
        (7.0, 1.4 + 0.4 * (len(found.components) + len(found.controls) + 1)),
    )


def _heat_map(found: Ablation, name: str) -> Figure:
    told = ", ".join(f"{a} and {b} {e.value:+.4f}" for (a, b), e in found.interactions.items())
    size = 2.2 + 0.9 * len(found.components)
    return Figure(
        name,
        partial(draw_interactions, found),
        "Shapley interaction index of every pair of components. A dot marks pairs whose interval "
        "excludes zero.",
        f"Heat map of interactions in {found.metric}: {told}.",
        (size + 1.0, size),
    )
