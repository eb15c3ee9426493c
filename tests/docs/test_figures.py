"""Figures of the site: legible on light and dark pages, and one element without loose ends."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.colors import to_rgb

EXTENSIONS = str(Path(__file__).parents[2] / "docs" / "_ext")


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(EXTENSIONS)
    with matplotlib.rc_context():
        yield __import__("figures")
    sys.modules.pop("figures")


def luminance(color: str) -> float:
    """Relative luminance, by its definition for sRGB."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#ffffff", "#131416"])
def test_colours_stand_out(figures, page):
    for color in figures.COLORS:
        low, high = sorted((luminance(color), luminance(page)))
        assert (high + 0.05) / (low + 0.05) >= 3, f"{color} on {page}"


def test_a_figure_takes_the_colour_of_the_text(figures):
    figure, (axis, other) = figures.panels(1, 2)
    axis.plot([1, 2], label="a line")
    axis.set(title="a <title>", xlabel="x")
    axis.legend()
    other.imshow([[0.0, 1.0]], cmap=figures.SEQUENTIAL)
    svg = figures.as_html(figure, 'What "it" shows')
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label") == 'What "it" shows'
    assert figures.INK not in svg and "currentColor" in svg
    assert "a <title>" in "".join(root.itertext())  # text, not outlines
    white = re.findall(r"fill: ?#fff(?:fff)?\b", svg)
    assert not white, "a white background would glare on a dark page"


def test_names_are_referred_to(figures):
    figure, (axis,) = figures.panels()
    axis.plot([1, 2])
    svg = figures.as_html(figure, "a line")
    named = set(re.findall(r'\bid="([^"]+)"', svg))
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    assert named == used and named


def test_the_same_figure_is_the_same_text(figures):
    def drawn():
        figure, (axis,) = figures.panels()
        axis.plot([1, 2])
        return figures.as_html(figure, "a line")

    assert drawn() == drawn()


def test_a_figure_without_words_is_refused(figures):
    figure, _ = figures.panels()
    with pytest.raises(ValueError, match=r"'alt' must tell what the figure shows \(got ' '\)"):
        figures.show(figure, alt=" ")


def test_colour_maps_fade_into_the_page(figures):
    assert figures.SEQUENTIAL(0.0)[3] == 0 and figures.SEQUENTIAL(1.0)[3] == 1
    assert figures.DIVERGING(0.5)[3] == pytest.approx(0, abs=0.02)
    assert figures.DIVERGING(0.0)[3] == figures.DIVERGING(1.0)[3] == 1
