"""Sections in Markdown and in HTML."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.study.report import Figure, Section, Table, save_figures, to_html, to_markdown
from pyg_kd.study.report.markup import blocks, inline
from tests.study.report.page_tree import Tree


def line(canvas) -> None:
    axes = canvas.subplots()
    axes.plot([0, 1], [1, 2], label="a line")
    axes.legend()


def figure(name: str = "one-line") -> Figure:
    return Figure(name, line, "Up it *goes*.", 'A line that rises from 1 to 2, "steeply"')


def section() -> Section:
    table = Table(
        ["Model", "Recall@20", "Users", "Note"],
        [["teacher", "**0.25** ± 0.01", 12345, "a | b"], ["student <20>", 0.2, None, "`x*y`"]],
        caption="What was *reached*",
    )
    inner = Section("Details", "More.", figures=[figure("second")])
    return Section("A & B", "First.\n\nSecond *one*.", [table], [figure()], [inner])


def test_markdown() -> None:
    page = to_markdown(section(), level=2, folder="pictures")
    assert page.splitlines()[0] == "## A & B"
    assert "| teacher | **0.25** ± 0.01 | 12,345 | a \\| b |" in page
    assert "| student <20> | 0.2 |  | `x*y` |" in page
    assert '![A line that rises from 1 to 2, "steeply"](pictures/one-line.svg)' in page
    assert "\n### Details\n" in page and page.index("First.") < page.index("| Model |")


def test_html_is_balanced_and_says_what_markdown_says() -> None:
    page = to_html(section(), level=2)
    tree = Tree(page)
    assert tree.text("h2") == ["A & B"] and tree.text("h3") == ["Details"]
    assert [t for t in tree.text("th") if "student" in t] == ["student <20>"]
    assert tree.text("figcaption")[:2] == ["What was ", "reached"]
    scopes = [attrs["scope"] for tag, attrs in tree.found if tag == "th"]
    assert scopes == ["col"] * 4 + ["row"] * 2
    cells = [attrs.get("class") for tag, attrs in tree.found if tag == "td"]
    assert cells == ["number", "number", None] * 2
    regions = [attrs for tag, attrs in tree.found if attrs.get("class") == "scroll"]
    assert regions[0]["tabindex"] == "0" and regions[0]["role"] == "region"


def test_figures_are_svg_of_the_page_s_colour_with_ids_of_their_own() -> None:
    pytest.importorskip("matplotlib")
    page = to_html(section())
    ids = [attrs["id"] for _, attrs in Tree(page).found if attrs.get("id")]
    assert len(ids) == len(set(ids))
    images = [attrs for tag, attrs in Tree(page).found if tag == "svg"]
    titles = {attrs["aria-labelledby"] for attrs in images}
    assert len(images) == 2 and titles == {"one-line-title", "second-title"} <= set(ids)
    assert "currentColor" in page and "#1b1d1f" not in page and "a line" in Tree(page).text("text")
    assert to_html(section()) == page  # no date, no random id


def test_figures_become_files(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    paths = save_figures(section(), tmp_path / "figures")
    assert [path.name for path in paths] == ["one-line.svg", "second.svg"]
    for path in paths:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    with pytest.raises(ValueError, match=r"differently \(got \['one-line'\] twice\)"):
        save_figures(Section("x", figures=[figure()] * 2), tmp_path)


@given(st.text(alphabet="ab*`<&[]() \n-\"'", max_size=40))
def test_any_text_gives_balanced_html_and_loses_no_word(text: str) -> None:
    tree = Tree(f"<div>{blocks(text)}</div>")
    kept = "".join(data for _, data in tree.texts)
    assert kept.count("a") == text.count("a") and kept.count("<") == text.count("<")


def test_nested_emphasis_and_code() -> None:
    assert inline("`**a**`") == "<code>**a**</code>"
    assert inline("**a `b` c**") == "<strong>a <code>b</code> c</strong>"
    assert inline("2 * 3 * 4") == "2 * 3 * 4"
    assert blocks("```\na < b\n\n- c\n```").count("\n") == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table(["a", "b"], [["x"]]), r"'rows' must have 2 cells each \(got 1: \['x'\]\)"),
        (lambda: Table([], []), r"'header' must name a column or more \(got \[\]\)"),
        (lambda: Figure("Aa", line, "", "x"), r"'name' must be of lower-case.*\(got 'Aa'\)"),
        (lambda: Figure("a", line, "", " "), r"'alt' must say what the figure shows \(got ' '\)"),
        (lambda: Section(" "), r"'title' must not be empty \(got ' '\)"),
    ],
)
def test_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
