"""Formulas of pages and docstrings become MathML, and what would show as source is refused."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("latex2mathml")
pytest.importorskip("sphinx")


@pytest.fixture
def formula(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    from mathml import formula

    return formula


def shown(text: str) -> str:
    """What a reader sees, without its layout."""
    return "".join(ElementTree.fromstring(text).itertext())


def tags(text: str) -> list[str]:
    return [part.tag.rpartition("}")[2] for part in ElementTree.fromstring(text).iter()]


def in_docstrings() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "pyg_kd").rglob("*.py")):
        text = path.read_text()
        inline = re.findall(r":math:`([^`]+)`", text)
        blocks = re.findall(r"\.\. math::\n\s*\n((?: +\S.*\n)+)", text)
        found += [(path.name, latex) for latex in (*inline, *blocks)]
    return found


def test_every_formula_of_a_docstring_is_understood(formula) -> None:
    found = in_docstrings()
    assert len(found) > 250
    for name, latex in found:
        text = formula(latex, block="\n" in latex)
        assert "\\" not in shown(text), (name, latex)


@pytest.mark.parametrize(
    ("latex", "seen"),
    [
        (r"\mathrm{rank}_u(i) / |I|", "ranku(i)/|I|"),
        (r"\| x - y \|^2", "‖x−y‖2"),
        (r"\Big\| x \Big\|^2", "‖x‖2"),
        (r"\textrm{hit\_rate}", "hit_rate"),
        (r"\arg\min_w f", "argminwf"),
        (r"\mathbb{1}[a \le b]", "𝟙[a≤b]"),
        (r"\hat{x}", "x^"),
    ],
)
def test_what_is_seen(formula, latex: str, seen: str) -> None:
    assert shown(formula(latex)).replace(" ", "") == seen


def test_words_are_one_identifier_and_functions_stand_off(formula) -> None:
    assert "<mi>softmax</mi>" in formula(r"\mathrm{softmax}(x)")
    spaced = tags(formula(r"q \log x"))
    assert spaced == ["math", "mrow", "mi", "mspace", "mi", "mspace", "mi"]
    assert "mspace" not in tags(formula(r"\exp(x)"))
    assert "mspace" not in tags(formula(r"\sum_{u} x_u"))


def test_rows_are_aligned(formula) -> None:
    text = formula(r"a &= b \\ c &= d", block=True)
    assert tags(text).count("mtr") == 2
    assert "text-align: right" in text and "columnalign" not in text
    assert tags(formula(r"\begin{aligned}a &= b \\ c &= d\end{aligned}")).count("mtr") == 2
    cases = formula(r"f = \begin{cases} 1 & \text{if } a \\ 0 & \text{else} \end{cases}")
    assert tags(cases).count("mtr") == 2 and "if" in shown(cases)


def test_block_and_inline(formula) -> None:
    assert 'display="block"' in formula("x", block=True)
    assert 'display="inline"' in formula("x")


@pytest.mark.parametrize(
    "latex",
    [r"\foo x", r"\frac{a}", "x_{a", "a & b", r"\begin{foo}a\end{foo}", r"\left( a", "x}"],
)
def test_what_would_show_as_source_is_refused(formula, latex: str) -> None:
    with pytest.raises(ValueError, match=r"is no formula|not known|not complete"):
        formula(latex)


def test_a_backslash_in_braces_counts_as_no_brace(formula) -> None:
    assert shown(formula(r"\{ x \}")).replace(" ", "") == "{x}"
