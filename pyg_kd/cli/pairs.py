"""Pairs of a user and an item from a file, by the ids of an index. Needs no PyTorch."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from pyg_kd.retrieval import Ids
from pyg_kd.retrieval.extras import need

SEPARATORS = {".csv": ",", ".tsv": "\t"}

#: An integer as text, as training reads it: ``7.0`` is 7, while ``int`` takes ``1_2`` for 12.
_INTEGER = re.compile(r"\s*([+-]?[0-9]+)(\.0*)?\s*", re.ASCII)

#: What pandas reads as a missing value in a text file, which training refuses.
MISSING = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
})  # fmt: skip


def read_pairs(
    path: Path, user: str, item: str, *, whole_users: bool = False
) -> Iterator[tuple[Any, Any]]:
    r"""The users and items of a file, line by line, as text from CSV and as they are from Parquet.

    Args:
        path: A ``.csv`` or ``.tsv`` file, each also with ``.gz``, or a Parquet file.
        user: The column of the users; if both are positions, a text file has no header line.
        item: The column of the items.
        whole_users: Refuse rows without a user.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged or ragged, has no such column, or
            lacks a user.
    """
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    if kind in (".parquet", ".pq"):
        for number, pair in enumerate(_parquet_pairs(path, user, item), 1):
            if whole_users and (pair[0] is None or pair[0] != pair[0] or pair[0] == ""):
                raise _without_user(f"row {number}", path, user)
            yield pair
    elif kind in SEPARATORS:
        missing = MISSING if whole_users else frozenset()
        with _opened(path) as file:
            rows = _rows(file, path, SEPARATORS[kind])
            yield from _text_pairs(rows, path, user, item, missing)
    else:
        raise ValueError(f"'{path}' must end in .csv, .tsv, .csv.gz, .tsv.gz or .parquet")


def as_ids(values: Sequence[Any], ids: Ids) -> list[Any]:
    r"""Values from a file as ids of an index; what cannot be one is ``None``.

    Args:
        values: Texts, or numbers.
        ids: The ids.

    Example:
        >>> as_ids(["7", "x"], Ids([7, 8]))
        [7, None]
    """
    if ids.kind == "text":
        return [value if isinstance(value, str) else str(value) for value in values]
    return [_integer(value) for value in values]


def find(values: Sequence[Any], ids: Ids) -> Any:
    """The rows of values from a file, int64 ``[n]``, -1 for those that are unknown."""
    import numpy as np

    made = as_ids(values, ids)
    known = [place for place, value in enumerate(made) if value is not None]
    rows = np.full(len(made), -1, np.int64)
    rows[known] = ids.find([made[place] for place in known])
    return rows


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        found = _INTEGER.fullmatch(value)
        value = found[1] if found else None
    try:
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return number if isinstance(value, str) or number == value else None


def _opened(path: Path) -> TextIO:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _text_pairs(
    rows: Iterator[tuple[int, list[str]]],
    path: Path,
    user: str,
    item: str,
    missing: frozenset[str],
) -> Iterator[tuple[str, str]]:
    _, names = first = next(rows, (1, []))
    if headless := user.isdigit() and item.isdigit():
        places = int(user), int(item)
        if names and max(places) >= len(names):
            raise ValueError(f"'{path}' must have a column {max(places)} (got {len(names)} in all)")
    else:
        places = _place(names, user, path), _place(names, item, path)
    for line, row in chain([first] if headless and names else [], rows):
        if len(row) != len(names):
            raise ValueError(
                f"line {line} of '{path}' must have {len(names)} fields (got {len(row)})"
            )
        if row[places[0]] in missing:
            raise _without_user(f"line {line}", path, user)
        yield row[places[0]], row[places[1]]


def _rows(file: TextIO, path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank, as fields, and the number of each."""
    reader = csv.reader(file, delimiter=separator, strict=True)
    line = 1
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield line, row
            line = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"line {line} of '{path}' is malformed ({error})") from error


def _without_user(place: str, path: Path, user: str) -> ValueError:
    return ValueError(f"{place} of '{path}' has no {user!r}")


def _place(names: list[str], name: str, path: Path) -> int:
    if name not in names:
        raise ValueError(f"'{path}' must have a column {name!r} (got {names})")
    if names.count(name) > 1:
        raise ValueError(f"'{path}' must have one column {name!r} (got {names})")
    return names.index(name)


def _parquet_pairs(path: Path, user: str, item: str) -> Iterator[tuple[Any, Any]]:
    parquet = need("pyarrow.parquet", "tables", f"'{path}'")
    broken = (need("pyarrow", "tables", f"'{path}'").ArrowException, OSError, ValueError)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
    except broken as error:
        raise _unreadable(path, error) from error
    for name in (user, item):
        _place(names, name, path)
    batches = file.iter_batches(columns=[user, item])
    while True:
        try:
            if (batch := next(batches, None)) is None:
                return
            pairs = [batch.column(name).to_pylist() for name in (user, item)]
        except broken as error:
            raise _unreadable(path, error) from error
        yield from zip(*pairs, strict=True)


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"'{path}' is not a readable Parquet file ({error})")
