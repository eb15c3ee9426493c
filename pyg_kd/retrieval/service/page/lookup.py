"""Finding users by the beginning of their ids, and items by id or title, while someone types."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.ids import FEW, Ids

Rows = npt.NDArray[np.int64]

#: Ids read in search of a prefix. Past them only the whole id is found, so that no look-up
#: keeps a processor for long.
SCANNED = 200_000

#: Titles that are ranked; a text as short as "e" is in almost all.
MATCHES = 500

#: What 64 bits hold, in digits.
DIGITS = 19


def parse_id(ids: Ids, text: str) -> Any:
    """The id that a text of the page stands for, which is an integer or a string as in ``ids``.

    The page has all ids as text, because a number of JavaScript is exact up to 53 bits only.

    Example:
        >>> parse_id(Ids([7, 12]), "12"), parse_id(Ids(["7", "12"]), "12")
        (12, '12')
        >>> parse_id(Ids([7, 12]), "12.0") is None
        True
    """
    if ids.kind == "text":
        return text
    digits = text[1:] if text.startswith("-") else text
    plain = digits.isascii() and digits.isdigit() and len(digits) <= DIGITS
    return int(text) if plain else None


def row_of(ids: Ids, text: str) -> int:
    """The row of an id written as text, -1 if it is unknown."""
    return int(ids.find([parse_id(ids, text)])[0])


def texts(ids: Ids, rows: Rows) -> list[str]:
    """The ids of rows, int64 ``[n]``, as text."""
    return [str(value) for value in ids.take(rows).tolist()]


def starting_with(ids: Ids, start: str, limit: int) -> list[int]:
    """Rows of ids that begin with ``start``: the id itself, then the others by row.

    Example:
        >>> starting_with(Ids([31, 4, 3, 304]), "3", 3)
        [2, 0, 3]
    """
    whole = row_of(ids, start) if start else -1
    found = [] if whole < 0 else [whole]
    for row in _prefixed(ids, start):
        if len(found) == limit:
            break
        if row != whole:
            found.append(row)
    return found[:limit]


def _prefixed(ids: Ids, start: str) -> Iterator[int]:
    for first in range(0, min(len(ids), SCANNED), FEW):
        block = texts(ids, np.arange(first, min(first + FEW, len(ids))))
        yield from (first + at for at, text in enumerate(block) if text.startswith(start))


class Titles:
    r"""Titles of items, searched by parts of their words, without regard to case and accents.

    Args:
        titles: The title of each row, ``[I]``.
        count: How often each item was chosen, ``[I]``: of two titles that match as well, the
            more popular item comes first.

    Example:
        >>> titles = Titles(["Amélie", "The Meal", "Meals"], np.array([9, 1, 5]))
        >>> [titles[row] for row in titles.search("meal", 5)]
        ['Meals', 'The Meal']
        >>> titles.search("AME", 5)
        [0]
    """

    def __init__(self, titles: list[str], count: npt.NDArray[Any]) -> None:
        self._titles, self._count = titles, count
        folded = [fold(title) for title in titles]
        self._text = "\n" + "\n".join(folded)
        length = np.fromiter(map(len, folded), np.int64, len(folded))
        self._start = np.concatenate([[1], 1 + np.cumsum(length + 1)])

    @staticmethod
    def of(ids: Ids, names: Mapping[Any, str], count: npt.NDArray[Any]) -> Titles:
        """The titles that ``names`` gives to ids; an item without one is called by its id."""
        values = [v for first in range(0, len(ids), FEW) for v in _values(ids, first)]
        return Titles([str(names.get(value, value)) for value in values], count)

    def __getitem__(self, row: int) -> str:
        return self._titles[row]

    def search(self, query: str, limit: int) -> list[int]:
        """Rows of titles with all words of the query, those that begin with it first."""
        words = fold(query).split()
        if not words:
            return []
        key = max(words, key=len)
        rows = [row for row in self._rows_with(key) if all(w in self._folded(row) for w in words)]
        return sorted(rows, key=lambda row: self._rank(row, words))[:limit]

    def _rank(self, row: int, words: list[str]) -> tuple[bool, int, int, int]:
        title = " " + self._folded(row)
        inside = sum(f" {word}" not in title for word in words)
        return not title.startswith(f" {words[0]}"), inside, -int(self._count[row]), row

    def _folded(self, row: int) -> str:
        return self._text[self._start[row] : self._start[row + 1] - 1]

    def _rows_with(self, key: str) -> list[int]:
        rows: list[int] = []
        at = self._text.find(key)
        while at >= 0 and len(rows) < MATCHES:
            rows.append(int(np.searchsorted(self._start, at, "right")) - 1)
            at = self._text.find(key, int(self._start[rows[-1] + 1]))
        return rows


def _values(ids: Ids, first: int) -> list[Any]:
    values: list[Any] = ids.take(np.arange(first, min(first + FEW, len(ids)))).tolist()
    return values


def fold(text: str) -> str:
    r"""Lower case, without accents, on one line.

    Example:
        >>> fold("Crème\nBRÛLÉE")
        'creme brulee'
    """
    parts = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(part for part in parts if not unicodedata.combining(part))
    return " ".join(plain.split())
