"""Finding users by the beginning of their ids, and items by id or title, while someone types."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.ids import FEW, Ids

Rows = npt.NDArray[np.int64]

#: Titles that are ranked; a text as short as "e" is in almost all.
MATCHES = 500

#: What 64 bits hold, in digits, and the largest integer.
DIGITS, LARGEST = 19, 2**63 - 1


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
    r"""Rows of ids that begin with a text, the id itself first; without Python loops over all ids.

    Shorter numbers come before longer ones, and those of one length in their order; strings come
    by row.

    Example:
        >>> starting_with(Ids([31, 4, 3, 304, 30]), "3", 3)
        [2, 4, 0]
    """
    if not start:
        return [*range(min(limit, len(ids)))]
    if ids.kind == "text":
        rows = _texts_from(ids, start)
        whole = row_of(ids, start)
        first = [whole] if whole >= 0 else []
        return [*first, *rows[rows != whole][:limit].tolist()][:limit]
    found: list[int] = []
    for low, high in _ranges(start):
        found += _between(ids, low, high, limit - len(found), descending=high < 0)
    return found


def _texts_from(ids: Ids, start: str) -> Rows:
    """Rows of strings with this beginning, compared byte by byte in columns."""
    arrays, wanted = ids.arrays(), start.encode()
    text, offsets = arrays["bytes"], arrays["offsets"]
    rows = np.flatnonzero(np.diff(offsets) >= len(wanted))
    for at, byte in enumerate(wanted):
        rows = rows[text[offsets[rows] + at] == byte]
    return rows


def _ranges(start: str) -> Iterator[tuple[int, int]]:
    """The integers of 64 bits that are written with this beginning, both ends included."""
    digits = start.removeprefix("-")
    if start == "-":
        yield -LARGEST - 1, -1
    if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and start != "0"):
        return
    number = int(digits) if len(digits) <= DIGITS else LARGEST + 2
    for more in range(DIGITS + 1 - len(digits) if number else 1):
        low, high = number * 10**more, (number + 1) * 10**more - 1
        if digits == start and low <= LARGEST:
            yield low, min(high, LARGEST)
        elif digits != start and low <= LARGEST + 1:
            yield max(-high, -LARGEST - 1), -low


def _between(ids: Ids, low: int, high: int, limit: int, *, descending: bool) -> list[int]:
    """Rows of the integers in a range, from its end that is nearer to zero."""
    if ids.kind == "position":
        return [*range(max(low, 0), min(high + 1, len(ids), low + limit))]
    values, order = ids.arrays()["values"], ids.arrays()["order"]
    sorter = order if len(order) else None  # none is stored where the ids ascend already
    first = int(np.searchsorted(values, low, "left", sorter=sorter))
    last = int(np.searchsorted(values, high, "right", sorter=sorter))
    places = np.arange(first, last)[::-1][:limit] if descending else np.arange(first, last)[:limit]
    rows = places if sorter is None else order[places]
    return [int(row) for row in rows]


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
        """The titles that ``names`` gives to ids, or to ids as text, as files of JSON have them.

        An item without one is called by its id.
        """
        values = [v for first in range(0, len(ids), FEW) for v in _values(ids, first)]
        titles = (names.get(value, names.get(str(value), value)) for value in values)
        return Titles([str(title) for title in titles], count)

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
