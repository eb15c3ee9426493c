"""Figures of sections, drawn by Matplotlib."""

from __future__ import annotations

import os
import re
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from pyg_kd.files import atomic_write
from pyg_kd.study.report.section import Figure, Section

#: Colour of text and axes while a figure is drawn; replaced by that of the page.
INK = "#1b1d1f"
#: Distinct for most kinds of colour blindness, and of enough contrast on white and on near-black.
COLORS = ("#2f7ebd", "#d9622b", "#2a9d6f", "#c0508f", "#8a6fd1", "#b08900", "#3a8ea6", "#8c8c8c")
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")


def svg(figure: Figure, *, inline: bool = False) -> str:
    r"""A figure as SVG, without a date or a random id: the same drawing gives the same text.

    Args:
        figure: The figure.
        inline: As an element of an HTML page: text and axes have the page's colour, the background
            is transparent, ids begin with the name of the figure, and ``alt`` is its title.

    Raises:
        ImportError: If Matplotlib is missing.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure as New
    except ImportError as error:
        raise ImportError("a report needs Matplotlib: pip install 'pyg_kd[study]'") from error
    text = StringIO()
    with rc_context(_style(figure.name)):
        canvas = New(figsize=figure.size, layout="constrained")
        figure.draw(canvas)
        canvas.savefig(text, format="svg", metadata={"Date": None}, transparent=inline)
    return _inlined(text.getvalue(), figure) if inline else text.getvalue()


def save_figures(section: Section, folder: str | os.PathLike[str]) -> list[Path]:
    r"""Write the figures of a section and of its parts, as ``NAME.svg``.

    Args:
        section: The section.
        folder: Where; made if it's missing and there is a figure.

    Returns:
        Their paths.

    Raises:
        ValueError: If two figures share a name.
    """
    figures = section.every_figure()
    names = [figure.name for figure in figures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"'section' must name each figure differently (got {twice} twice)")
    paths = [Path(folder) / f"{name}.svg" for name in names]
    for path, figure in zip(paths, figures, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            Path(temporary).write_text(svg(figure))
    return paths


def _style(salt: str) -> Any:
    from cycler import cycler

    return {
        "svg.fonttype": "none",  # text stays text: it can be read out and searched
        "svg.hashsalt": salt,
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.2,
        "grid.color": INK,
        "legend.frameon": False,
        **dict.fromkeys(INKED, INK),
    }


def _inlined(text: str, figure: Figure) -> str:

    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{figure.name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{figure.name}-", text)
    label = f'<svg role="img" aria-labelledby="{figure.name}-title"'
    title = f'<title id="{figure.name}-title">{escape(figure.alt)}</title>'
    head, body = text.split(">", 1)
    return f"{head.replace('<svg', label, 1)}>{title}{body}"
