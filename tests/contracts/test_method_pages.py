"""Every method has a page of its own, with its formula, its paper and a figure that can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pyg_kd.distill import Distillation
from tests.pages import cells

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "methods"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")
HEADINGS = [
    "Recipe",
    "Formula",
    "What it transfers",
    "Cost",
    "When, and when not",
    "Paper and code",
]


def page_of(cls: type[Distillation]) -> Path:
    """The page that names a class first, under its title."""
    named = [p for p in PAGES if re.findall(r"\{class\}`~([\w.]+)`", p.read_text())[0] == name(cls)]
    assert len(named) == 1, f"{cls.__name__} is the subject of {[path.name for path in named]}"
    return named[0]


def name(cls: type[Distillation]) -> str:
    return f"pyg_kd.distill.{cls.__name__}"


def test_every_method_has_a_page(method_cls) -> None:
    text = page_of(method_cls).read_text()
    assert re.search(rf"\b{method_cls.__name__}\(", text), "no cell makes one"
    paper = re.search(r"<(https://\S+?)>`_", method_cls.__doc__ or "")
    assert paper is not None and f"]({paper[1]})" in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_has_all_parts(path: Path) -> None:
    text = path.read_text()
    found = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert found == HEADINGS
    parts = dict(zip(found, re.split(r"^## .*$", text, flags=re.MULTILINE)[1:], strict=True))
    assert "```{math}" in parts["Formula"]
    assert "assert_close(" in parts["Formula"], "the formula is not held against the class"
    assert "show(" in parts["What it transfers"]
    assert re.search(r"\b(costs|accuracy)\(", parts["Cost"] + parts["When, and when not"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_seconds_and_metrics_are_read_not_typed(path: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"\(https?:\S+\)", "", prose)
    assert not re.search(r"0?\.\d{4}\b|\d(\.\d+)? (seconds|ms)\b", prose)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs").glob("[mt]*/*.md")), ids=lambda path: path.stem
)
def test_figures_say_what_they_show(path: Path) -> None:
    for cell in cells(path):
        assert len(re.findall(r"\bshow\(\n", cell)) == len(re.findall(r"\balt=\"\w[^\"]{9}", cell))
    for alt in re.findall(r"!\[(.*?)\]\(", path.read_text(), re.DOTALL):
        assert len(alt.split()) > 3, f"an image says {alt!r} of itself"
