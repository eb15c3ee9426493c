"""Sections in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral

from pyg_kd.study.report.section import Cell, Figure, Section, Table


def to_markdown(section: Section, level: int = 1, folder: str = "figures") -> str:
    r"""A section in Markdown.

    Args:
        section: The section. Its figures are linked, not drawn: ``save_figures`` writes them.
        level: Level of its heading.
        folder: Where the figures are, relative to the page.

    Example:
        >>> print(to_markdown(Section("Best", tables=[Table(["Model"], [["a"]])]), level=2))
        ## Best
        <BLANKLINE>
        | Model |
        | --- |
        | a |
        <BLANKLINE>
    """
    return "\n".join(_blocks(section, level, folder))


def _blocks(section: Section, level: int, folder: str) -> Iterator[str]:
    yield f"{'#' * level} {section.title}\n"
    if section.text:
        yield f"{section.text.strip()}\n"
    for table in section.tables:
        if table.caption:
            yield f"{table.caption}\n"
        yield markdown_table(table) + "\n"
    for figure in section.figures:
        yield _image(figure, folder)
    for part in section.parts:
        yield to_markdown(part, level + 1, folder)


def _image(figure: Figure, folder: str) -> str:
    alt = " ".join(figure.alt.split()).replace("[", "(").replace("]", ")")
    return f"![{alt}]({folder}/{figure.name}.svg)\n" + (
        f"\n{figure.caption}\n" if figure.caption else ""
    )


def markdown_table(table: Table) -> str:
    """A table in Markdown, without its caption."""
    lines: list[Sequence[Cell]] = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Cell) -> str:
    return " ".join(cell_text(value).split("\n")).replace("|", r"\|")


def cell_text(value: Cell) -> str:
    """What a cell shows.

    Example:
        >>> [cell_text(value) for value in (None, 12345, 0.25, "*best*")]
        ['', '12,345', '0.25', '*best*']
    """
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,}" if isinstance(value, Integral) else f"{value:.4g}"
