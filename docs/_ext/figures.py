"""The look of the figures that pages draw while the site is built.

A figure is put into the page as SVG, on no background, and its text and axes have the colour of
the text around it: it is as legible in dark mode as in light. The colours of what is drawn stand
out from both (:data:`COLORS`), and colour maps fade into the page instead of into white.
"""

from __future__ import annotations

import io
import re
from html import escape
from xml.etree import ElementTree

import matplotlib
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure

#: Stands for the colour of the text around a figure, and is in none.
INK = "#010203"

BLUE, ORANGE, GREEN, PURPLE, GREY = "#3b82c4", "#d9722e", "#2f9e77", "#a964c9", "#808690"
#: Each has a contrast of 3 or more on the light and on the dark page.
COLORS = (BLUE, ORANGE, GREEN, PURPLE, GREY)

STYLE = {
    "font.size": 10,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "image.interpolation": "nearest",
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "pyg_kd",
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
}


def _faded(name: str, *colors: tuple[str, float]) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list(name, [to_rgba(*color) for color in colors])


#: From nothing to blue.
SEQUENTIAL = _faded("sequential", (BLUE, 0.0), (BLUE, 1.0))
#: From orange for negative values over nothing to blue for positive ones.
DIVERGING = _faded("diverging", (ORANGE, 1.0), (ORANGE, 0.0), (BLUE, 0.0), (BLUE, 1.0))


def panels(
    rows: int = 1, cols: int = 1, *, width: float = 6.4, height: float = 2.8, **options: object
) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, row by row; ``options`` are those of ``Figure.subplots``."""
    matplotlib.rcParams.update(STYLE)  # what is drawn later reads it too
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, cols, squeeze=False, **options)
    return figure, list(axes.flat)


def show(figure: Figure, *, alt: str) -> None:
    """Put a figure into the page, with the text that stands for it where it can't be seen."""
    if not alt.strip():
        raise ValueError(f"'alt' must tell what the figure shows (got {alt!r})")
    display({"text/html": as_html(figure, alt), "text/plain": alt}, raw=True)


def as_html(figure: Figure, alt: str) -> str:
    """A figure as an SVG element."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    width = 96 * figure.get_figwidth()
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box[0]} role="img" aria-label="{escape(alt)}" '
        f'style="width: 100%; max-width: {width:.0f}px; height: auto">'
    )
    svg = head + svg[svg.index(">") + 1 :]
    svg = _without_unused_ids(svg.replace(INK, "currentColor"))
    ElementTree.fromstring(svg)  # a page with broken markup is worse than none
    return svg


def _without_unused_ids(svg: str) -> str:
    """Names that nothing refers to would be given twice on a page with two figures."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    return re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
