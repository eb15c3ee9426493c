"""The figures of an ablation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyg_kd.study.ablation.effects import Ablation, Effect

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_shares(found: Ablation, figure: Figure) -> None:
    """Bars of the Shapley values, of all together, and of controls."""
    axes = figure.subplots()
    bars: list[tuple[str, Effect, str]] = [
        *((name, found.shapley[name], "C0") for name in found.components),
        ("all components", found.total, "C1"),
        *((f"all, {_control(name)}", e, "C7") for name, e in found.controls.items()),
    ]
    place = np.arange(len(bars))[::-1]
    values = np.array([effect.value for _, effect, _ in bars])
    ends = np.array([effect.interval for _, effect, _ in bars])
    error = np.abs(ends.T - values)
    ink = axes.xaxis.label.get_color()  # as the page wants it
    axes.barh(place, values, 0.62, color=[color for *_, color in bars])
    axes.errorbar(values, place, xerr=error, fmt="none", ecolor=ink, capsize=3, lw=1.4)
    axes.axvline(0, color="#8c8c8c", lw=1)
    axes.set_yticks(place, [name for name, *_ in bars])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"Gain in {found.metric}" if found.metric else "Gain")


def draw_interactions(found: Ablation, figure: Figure) -> None:
    """A heat map of pairs, in the lower triangle."""
    axes = figure.subplots()
    names, table = found.components, interaction_matrix(found)
    most = max(float(np.nanmax(np.abs(table))), 1e-12)
    image: Any = axes.imshow(table[1:, :-1], cmap="RdBu_r", vmin=-most, vmax=most)
    for (one, other), effect in found.interactions.items():
        row, column = names.index(other) - 1, names.index(one)
        shade = "white" if abs(effect.value) > 0.6 * most else "#1b1d1e"
        clear = effect.interval[0] > 0 or effect.interval[1] < 0
        text = f"{effect.value:+.4f}{' •' if clear else ''}"
        axes.text(column, row, text, ha="center", va="center", color=shade)
    axes.set_xticks(range(len(names) - 1), names[:-1], rotation=20, ha="right")
    axes.set_yticks(range(len(names) - 1), names[1:])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="Interaction")


def interaction_matrix(found: Ablation) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Interactions below the diagonal, NaN elsewhere, float64 ``[n, n]``."""
    names = found.components
    table = np.full((len(names), len(names)), np.nan)
    for (one, other), effect in found.interactions.items():
        table[names.index(other), names.index(one)] = effect.value
    return table


def _control(name: str) -> str:
    return "no teacher" if name == "none" else f"{name} teacher"
