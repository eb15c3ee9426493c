"""Formulas as MathML, which browsers draw by themselves: no script, no network.

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
KNOWN = (*ENVIRONMENTS, "split", "cases", "matrix", "pmatrix", "bmatrix", "array")
PARTS = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2, "munderover": 3}
ROWS = ("math", "mrow", "mtd", "mstyle")
OPENING = ("(", "[", "{", "⟨", "‖", "⌊", "⌈")
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
        space_functions(element)
    refuse(latex, tree)
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


def refuse(latex: str, tree: ElementTree.Element) -> None:
    """Raise if something of the formula was not understood, or is missing."""
    raw = [text for text in tree.itertext() if text.startswith("\\") or text == "&"]
    raw += [name for name in re.findall(r"\\begin\{(\w+\*?)\}", latex) if name not in KNOWN]
    if raw:
        raise ValueError(f"{latex!r} holds {raw[0]!r}, which is not known")
    short = [part for part in tree.iter() if len(part) < PARTS.get(kind(part), 0)]
    plain = re.sub(r"\\[{}]", "", latex)
    if short or plain.count("{") != plain.count("}"):
        raise ValueError(f"{latex!r} is not complete")


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
    if element.text == "|" and element.get("form") is None:
        element.attrib |= {"lspace": "0", "rspace": "0"}
    if element.tag.endswith("mtext") and element.text:
        element.text = element.text.replace(r"\_", "_")


def space_functions(row: ElementTree.Element) -> None:
    """A function such as log stands off its neighbours, but not off a bracket."""
    if kind(row) not in ROWS:
        return
    for place in range(len(row) - 1, -1, -1):
        base = row[place][0] if len(row[place]) and "sub" in row[place].tag else row[place]
        name = base.text or ""
        if not (name.isalpha() and name.isascii() and len(name) > 1) or "mtext" in base.tag:
            continue
        if place + 1 < len(row) and row[place + 1].text not in OPENING and solid(row[place + 1]):
            row.insert(place + 1, thin_space())
        if place > 0 and solid(row[place - 1]) and row[place - 1].text not in OPENING:
            row.insert(place, thin_space())


def solid(element: ElementTree.Element) -> bool:
    """Whether it is no operator, which brings its own space, and no space."""
    return kind(element) not in ("mo", "mspace") or element.text in (")", "]", "|")


def kind(element: ElementTree.Element) -> str:
    """The tag without its namespace."""
    return element.tag.rpartition("}")[2]


def thin_space() -> ElementTree.Element:
    """A sixth of an em."""
    return ElementTree.Element(f"{{{NAMESPACE}}}mspace", {"width": "0.167em"})


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
