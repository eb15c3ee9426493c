"""What an analysis tells: text, tables and figures, in whatever form a report is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: What a cell of a table may hold: text in Markdown, a number, or nothing.
Cell = str | float | None


@dataclass(frozen=True)
class Table:
    r"""A table. The first cell of a row names it.

    Args:
        header: Names of the columns.
        rows: As many cells each as there are columns: text with Markdown's emphasis, code and
            links; an integer, which gets separators; a float, which gets four digits; or
            :obj:`None`, which stays empty.
        caption: What the table shows, in a sentence or a few words.

    Raises:
        ValueError: If there is no column, or a row has another number of cells.

    Example:
        >>> Table(["Model", "Recall@20"], [["teacher", 0.25], ["student", 0.2]]).rows[0][1]
        0.25
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.header:
            raise ValueError(f"'header' must name a column or more (got {self.header!r})")
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"'rows' must have {len(self.header)} cells each (got {len(row)}: {row!r})"
                )


@dataclass(frozen=True)
class Figure:
    r"""A figure, drawn when a report is written.

    Args:
        name: Of its file, without a suffix: lower-case letters, digits, ``-`` and ``_``; no two
            figures of a report share one.
        draw: Draws on an empty :class:`matplotlib.figure.Figure`, as by ``figure.subplots()``. It
            leaves the colours of text, axes and background alone, which follow the reader's
            light or dark mode; data has the colours ``C0`` to ``C9``.
        caption: What the figure shows.
        alt: What it shows to a reader who can't see it; must not be empty.
        size: Width and height in inches.

    Raises:
        ValueError: If ``name`` has other characters, or ``alt`` is empty.
    """

    name: str
    draw: Callable[[Canvas], object]
    caption: str
    alt: str
    size: tuple[float, float] = (6.0, 3.6)

    def __post_init__(self) -> None:
        plain = self.name.replace("-", "").replace("_", "")
        if not (plain.isascii() and plain.isalnum() and plain == plain.lower()):
            raise ValueError(
                f"'name' must be of lower-case letters, digits, '-' and '_' (got {self.name!r})"
            )
        if not self.alt.strip():
            raise ValueError(f"'alt' must say what the figure shows (got {self.alt!r})")


@dataclass(frozen=True)
class Section:
    r"""A part of a report: its text first, then its tables, its figures, and its own parts.

    Args:
        title: The heading, without a ``#``.
        text: Paragraphs in Markdown, with empty lines between them; lists of ``-``, fenced code,
            emphasis, code and links are understood.
        tables: Tables.
        figures: Figures.
        parts: Sections one level below.
        folded: Show the heading alone until the reader opens it.

    Raises:
        ValueError: If ``title`` is empty.

    Example:
        >>> best = Section("Best", "The *student* won.", [Table(["Model"], [["student"]])])
        >>> Section("Study", parts=[best]).parts[0].title
        'Best'
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    parts: Sequence[Section] = ()
    folded: bool = False

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise ValueError(f"'title' must not be empty (got {self.title!r})")

    def every_figure(self) -> list[Figure]:
        """The figures of the section and of its parts, in their order."""
        inner = [figure for part in self.parts for figure in part.every_figure()]
        return [*self.figures, *inner]
