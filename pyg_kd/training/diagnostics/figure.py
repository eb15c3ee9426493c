"""One figure of a history with diagnostics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyg_kd.training.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Panels: their titles, and how the names of their columns begin.
PANELS = {
    "agreement of lists": ("overlap@", "rbo"),
    "agreement of spaces": ("cka", "neighbours"),
    "directions in use": ("effective rank",),
    "conflict of gradients": ("conflict",),
    "pull of the method": ("pull",),
    "experts and groups in use": ("experts", "groups"),
}


def panels(history: History) -> dict[str, list[str]]:
    """The panels that a history has columns for, by title.

    Example:
        >>> panels(History([{"epoch": 0, "loss": 1.0, "rbo": 0.5, "cka user": 0.1}]))
        {'agreement of lists': ['rbo'], 'agreement of spaces': ['cka user']}
    """
    found = {
        title: [name for name in history.columns if name.startswith(begin)]
        for title, begin in PANELS.items()
    }
    return {title: names for title, names in found.items() if names}


def plot_diagnostics(history: History, figure: Figure | None = None) -> Figure:
    r"""Draw what :class:`~pyg_kd.training.diagnostics.Diagnostics` measured, over the epochs.

    Args:
        history: What ``fit`` returned.
        figure: An empty figure to draw on; a new one by default.

    Raises:
        ImportError: If Matplotlib is missing.
        ValueError: If the history has no diagnostics.
    """
    found = panels(history)
    if not found:
        raise ValueError(
            "'history' must have columns of Diagnostics: fit with callbacks=[Diagnostics()] "
            f"(got {history.columns})"
        )
    if figure is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                "plot_diagnostics needs Matplotlib: pip install 'pyg_kd[plot]'"
            ) from error
        rows = -(-len(found) // 3)
        size = (4.5 * min(len(found), 3), 3.2 * rows)
        figure = plt.figure(figsize=size, layout="constrained")
    columns = min(len(found), 3)
    axes = figure.subplots(-(-len(found) // columns), columns, squeeze=False)
    for ax in axes.flat[len(found) :]:
        ax.remove()
    for ax, (title, names) in zip(axes.flat, found.items(), strict=False):
        for name in names:
            history.plot(name, ax, _label(name))
        if title.startswith("conflict"):
            ax.axhline(0, linewidth=0.8, linestyle=":")
        if title.startswith("pull"):
            ax.set_yscale("log")
        ax.set_title(title, fontsize="medium")
        ax.set_ylabel("")
        ax.legend(fontsize="x-small")
    return figure


def _label(name: str) -> str:
    """The name without what its panel's title says."""
    for begin in ("effective rank ", "conflict ", "pull "):
        name = name.removeprefix(begin)
    return name
