"""Sections in HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from pyg_kd.study.report.drawing import svg
from pyg_kd.study.report.markdown import cell_text
from pyg_kd.study.report.markup import blocks, inline
from pyg_kd.study.report.section import Cell, Figure, Section, Table

#: What stands in a column of numbers.
NUMBER = re.compile(r"[+\-−<>≈~]?\s?\d|unbounded$")


def to_html(section: Section, level: int = 1, path: str = "") -> str:
    r"""A section as an element of an HTML page, with its figures in it.

    Args:
        section: The section.
        level: Level of its heading, 6 at most.
        path: Anchor of the section around it, which begins its own.

    Example:
        >>> print(to_html(Section("Best", "It *won*."), level=2))
        <section id="best">
        <h2>Best</h2>
        <p>It <em>won</em>.</p>
        </section>
    """
    return "\n".join(_elements(section, min(level, 6), anchor(section.title, path)))


def anchor(title: str, path: str = "") -> str:
    """The id of a section, by its title and the id of the section around it."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f"{path}-{name}" if path else name


def _elements(section: Section, level: int, name: str) -> Iterator[str]:
    heading = f"<h{level}>{inline(section.title)}</h{level}>"
    yield f'<section id="{name}">'
    yield f"<details><summary>{heading}</summary>" if section.folded else heading
    if section.text:
        yield blocks(section.text)
    yield from map(html_table, section.tables)
    yield from map(_figure, section.figures)
    for part in section.parts:
        yield to_html(part, level + 1, name)
    yield "</details></section>" if section.folded else "</section>"


def html_table(table: Table) -> str:
    """A table that scrolls within itself where the page is narrow."""
    numeric = [_is_numeric(column) for column in zip(*table.rows, strict=True)]
    numeric = numeric or [False] * len(table.header)
    numeric[0] = False  # names of rows
    classes = [' class="number"' if is_number else "" for is_number in numeric]
    head = "".join(
        f'<th scope="col"{kind}>{inline(name)}</th>'
        for name, kind in zip(table.header, classes, strict=True)
    )
    rows = "\n".join(_row([cell_text(cell) for cell in row], classes) for row in table.rows)
    label = escape(re.sub(r"[*`]", "", table.caption) or f"Table of {table.header[0]}")
    caption = f"<figcaption>{inline(table.caption)}</figcaption>\n" if table.caption else ""
    return (
        f'<figure>{caption}<div class="scroll" role="region" tabindex="0" aria-label="{label}">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div></figure>"
    )


def _row(cells: list[str], classes: list[str]) -> str:
    rest = "".join(
        f"<td{kind}>{inline(cell)}</td>" for cell, kind in zip(cells[1:], classes[1:], strict=True)
    )
    return f'<tr><th scope="row"{classes[0]}>{inline(cells[0])}</th>{rest}</tr>'


def _is_numeric(column: tuple[Cell, ...]) -> bool:
    """Whether all that a column holds begins with a number, or has no bounds."""
    texts = [text for text in map(cell_text, column) if text]
    return bool(texts) and all(NUMBER.match(text.lstrip("*")) for text in texts)


def _figure(figure: Figure) -> str:
    caption = f"<figcaption>{inline(figure.caption)}</figcaption>" if figure.caption else ""
    # On a phone, text shrinks to 8 pixels at least; a figure that is wider then scrolls.
    least, most = (f"{factor * figure.size[0]:.1f}rem" for factor in (3.7, 7.0))
    return (
        f'<figure id="{figure.name}"><div class="scroll" role="region" tabindex="0" '
        f'aria-label="Figure {figure.name}"><div class="plot" '
        f'style="min-width: {least}; max-width: {most}">{svg(figure, inline=True)}</div></div>'
        f"{caption}</figure>"
    )
