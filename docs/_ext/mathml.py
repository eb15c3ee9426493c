"""Formulas as MathML, which browsers draw by themselves: no script, no foreign font, no network.

:func:`formula` turns LaTeX into MathML Core, the part that all browsers share: words are one
upright identifier, cells are aligned by style, letters of other alphabets are characters. What it
doesn't know is a warning, so that no page shows a raw command.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
ENVIRONMENTS = ("align*", "align", "aligned", "gather*", "equation*", "equation")
DOUBLE_STRUCK_DIGITS = 0x1D7D8
logger = logging.getLogger(__name__)


def formula(latex: str, *, block: bool = False) -> str:
    r"""MathML of a formula.

    Args:
        latex: The formula, without dollars.
        block: On a line of its own.

    Raises:
        ValueError: If it holds a command that isn't known, or isn't complete.

    Example:
        >>> print(formula(r"\mathrm{rank}_u")[67:])
        <mi>rank</mi><mi>u</mi></msub></mrow></math>
    """
    source = prepared(latex, block)
    try:
        tree = ElementTree.fromstring(convert(source, display="block" if block else "inline"))
    except Exception as error:  # it raises bare Exception's children, and IndexError
        raise ValueError(f"{latex!r} is no formula: {type(error).__name__} {error}") from error
    for element in list(tree.iter()):
        merge_letters(element)
    for element in tree.iter():
        mend(element)
    raw = [text for text in tree.itertext() if text.startswith("\\") or text == "&"]
    if raw:
        raise ValueError(f"{latex!r} holds {raw[0]!r}, which is not known")
    ElementTree.register_namespace("", NAMESPACE)
    return ElementTree.tostring(tree, encoding="unicode")


def prepared(latex: str, block: bool) -> str:
    """LaTeX in the words that the converter knows."""
    source = latex.strip()
    for name in ENVIRONMENTS:
        wanted = "split" if name.startswith("align") else ""
        for word in ("begin", "end"):
            source = source.replace(
                rf"\{word}{{{name}}}", rf"\{word}{{{wanted}}}" if wanted else ""
            )
    source = re.sub(r"(\\[Bb]igg?[lr]?)\\\|", r"\1‖", source)
    source = source.replace(r"\textrm", r"\text").replace(r"\arg", r"\operatorname{arg}")
    rows = re.search(r"\\\\", source) and not re.search(r"\\begin", source)
    return rf"\begin{{split}}{source}\end{{split}}" if block and rows else source


def merge_letters(row: ElementTree.Element) -> None:
    """``\\mathrm{word}``, which comes as a row of letters, becomes one identifier."""
    styles = [child.get("mathvariant") for child in row]
    same = len(row) > 0 and styles[0] in ("normal", "italic") and len(set(styles)) == 1
    if not same or row.tag != f"{{{NAMESPACE}}}mrow":
        return
    text, style = "".join(child.text or "" for child in row), styles[0]
    row.tag, row.text = f"{{{NAMESPACE}}}mi", text
    del row[:]
    if style == "italic":
        row.set("style", "font-style: italic")


def mend(element: ElementTree.Element) -> None:
    """Attributes that MathML Core left out become what it has."""
    align = element.attrib.pop("columnalign", None)
    if align is not None:
        element.set("style", f"text-align: {align}")
    if element.attrib.pop("mathvariant", None) == "double-struck" and element.text:
        element.text = "".join(
            chr(DOUBLE_STRUCK_DIGITS + int(letter)) if letter.isdigit() else letter
            for letter in element.text
        )
    if element.get("width") == "negativethinmathspace":
        element.set("width", "-0.167em")
    if element.tag.endswith("mtext") and element.text:
        element.text = element.text.replace(r"\_", "_")


def drawn(self: HTML5Translator, node: nodes.Element, *, block: bool) -> str:
    """A formula of a page, or its source with a warning."""
    try:
        return formula(node.astext(), block=block)
    except ValueError as error:
        logger.warning("%s", error, location=node)
        return f"<code>{self.encode(node.astext())}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate"))
    self.body.append(drawn(self, node, block=False) + "</span>")
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on a line of its own, with its number where it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(drawn(self, node, block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
