"""Columns of text files and of Parquet files."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".dat": None}
_PARQUET = (".parquet", ".pq")
#: What may separate the fields of a ``.dat`` file, the likeliest first; else it is blanks.
_DAT_SEPARATORS = (b"::", b"\t", b",", b";", b"|")
#: Options whose columns hold ids.
_IDS = ("user", "item")
_INTEGER = re.compile(r"[+-]?[0-9]+")
#: How an id may be written to be a number: ``7.0`` is 7, while ``1E5`` names something.
_DECIMAL = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)\s*", re.ASCII)
#: Bytes of a text file looked at together.
_BLOCK = 1 << 24


def read_columns(
    path: Path,
    wanted: Mapping[str, str | int],
    *,
    optional: Collection[str] = (),
    text: Collection[str | int] = (),
) -> dict[str, Any]:
    r"""Read some columns of a file.

    Args:
        path: A file whose name ends in ``.csv``, ``.tsv``, ``.dat``, each also with ``.gz``,
            or ``.parquet`` or ``.pq``.
        wanted: The column asked for by each option. If all are positions, a text file has no
            header line. Ids, those of ``user`` and ``item``, are strings where a text file has
            others than decimal numbers among them.
        optional: Columns that are read, too, where the file has them.
        text: Columns that a text file holds strings in, whatever they look like.

    Returns:
        The columns by their names, in the order of ``wanted``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If a package that reads it is not installed.
        ValueError: If the file is of another kind, damaged or ragged, or has no such column.
    """
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    if kind not in _SEPARATORS and (kind not in _PARQUET or name.endswith(".gz")):
        known = ", ".join(sorted([*_SEPARATORS, *_PARQUET, *(f"{s}.gz" for s in _SEPARATORS)]))
        raise ValueError(f"'table' must be a file that ends in one of {known} (got '{path}')")
    if not path.is_file():
        raise FileNotFoundError(f"'table' must be an existing file (got '{path}')")
    if kind in _PARQUET:
        return _parquet_columns(path, wanted, optional)
    return _text_columns(path, _SEPARATORS[kind], wanted, optional, text)


def check_names(wanted: Mapping[str, Any], known: Sequence[Any], hint: str = "") -> None:
    """Raise ``ValueError`` unless each option of ``wanted`` names one of the columns ``known``."""
    for option, name in wanted.items():
        if not isinstance(name, (str, int)) or name not in known:
            raise ValueError(f"'{option}' must be one of the columns {known} (got {name!r}){hint}")
        if known.count(name) > 1:
            raise ValueError(f"'{option}' must name one column, not several of {known}")


def from_arrow(table: Any) -> Any:
    """A table of Arrow, whose columns have no names of their own, as a data frame; others as is."""
    is_arrow = hasattr(table, "columns") and hasattr(table, "column_names")
    return table.to_pandas(ignore_metadata=True) if is_arrow else table


def with_optional(
    wanted: Mapping[str, Any], optional: Collection[str], known: Sequence[Any]
) -> dict[str, Any]:
    """The columns wanted, with those among the ``optional`` ones that are ``known``."""
    extra = {name: name for name in optional if name in known and name not in wanted.values()}
    return {**wanted, **extra}


def _parquet_columns(
    path: Path, wanted: Mapping[str, str | int], optional: Collection[str]
) -> dict[str, Any]:
    pyarrow = _import("pyarrow", path)
    _import("pandas", path)
    parquet = import_module("pyarrow.parquet")
    broken = (pyarrow.ArrowException, OSError, ValueError)  # the last: names that are no UTF-8
    try:
        names = parquet.read_schema(path).names
    except broken as error:
        raise _unreadable(path, error) from error
    wanted = with_optional(wanted, optional, names)
    check_names(wanted, names)
    columns = [str(name) for name in wanted.values()]
    try:
        table = parquet.read_table(path, columns=columns, page_checksum_verification=True)
        # Without the metadata of an index, which is a column like any other.
        frame = table.to_pandas(ignore_metadata=True)
    except broken as error:
        raise _unreadable(path, error) from error
    return {name: frame[name] for name in columns}


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"'{path}' is not a readable Parquet file ({error})")


def _text_columns(
    path: Path,
    separator: str | None,
    wanted: Mapping[str, str | int],
    optional: Collection[str],
    text: Collection[str | int],
) -> dict[str, Any]:
    pandas = _import("pandas", path)
    content, separator = _separated(_content(path), separator)
    names = next((row for _, row in _rows(path, content, separator)), None)
    if names is None:
        raise ValueError(f"'table' must not be an empty file (got '{path}')")
    headless = all(isinstance(name, int) for name in wanted.values())
    if not headless:
        wanted = with_optional(wanted, optional, names)
    hint = ": without a header line, columns have numbers, such as 0 for the user, 1 for the item"
    check_names(wanted, range(len(names)) if headless else names, "" if headless else hint)
    _check_widths(path, content, separator, len(names))
    place = {name: name if headless else names.index(str(name)) for name in wanted.values()}

    def read(some: Collection[str | int], text: Collection[str | int]) -> dict[str, Any]:
        frame = pandas.read_csv(
            io.BytesIO(content),
            sep=separator,
            header=None if headless else 0,
            usecols=[place[name] for name in some],
            dtype={place[name] if headless else name: str for name in some if name in text},
            index_col=False,  # never the first column
            low_memory=False,  # else the type of an id depends on the block of lines that it is in
        )
        order = sorted(place[name] for name in some)
        return {str(name): frame.iloc[:, order.index(place[name])] for name in some}

    columns = read(wanted.values(), text)
    ids = [name for option, name in wanted.items() if option in _IDS]
    # pandas makes the same number of ``1E5`` and ``100000``, and of ``True`` and ``true``.
    doubtful = [name for name in ids if columns[str(name)].dtype.kind in "fb"]
    for name, column in (read(doubtful, doubtful) if doubtful else {}).items():
        if not all(map(_DECIMAL.fullmatch, column.dropna().unique())):
            columns[name] = column
    for name in columns.keys() - set(map(str, text)):
        _refuse_long_integers(path, name, columns[name])
    return columns


def _content(path: Path) -> bytes:
    """The text of a file in UTF-8, its lines ended by a line feed alone."""
    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"'{path}' is not a whole gzip file ({error})") from error
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        at = content.index(b"\0") if b"\0" in content else None
        if not content.isascii():
            content.decode()
    except UnicodeDecodeError as error:
        at = error.start
    if at is not None:
        line = content.count(b"\n", 0, at) + 1
        raise ValueError(f"'{path}' must be text in UTF-8 (got byte {content[at]} on line {line})")
    return content


def _separated(content: bytes, separator: str | None) -> tuple[bytes, str]:
    """The content with one character between fields, and that character."""
    if separator is not None:
        return content, separator
    first = content.lstrip().partition(b"\n")[0]
    found = next((mark for mark in _DAT_SEPARATORS if mark in first), None)
    if found is None:  # any number of blanks
        lines = (b" ".join(line.split()) for line in content.split(b"\n"))
        return b"\n".join(lines), " "
    if found == b"::":
        spare = next(mark for mark in map(chr, range(31, 13, -1)) if mark.encode() not in content)
        return content.replace(b"::", spare.encode()), spare
    return content, found.decode()


def _rows(path: Path, content: bytes, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank, as fields, and the number of each."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    line = 1
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {line} of '{path}' is malformed ({error})") from error


def _check_widths(path: Path, content: bytes, separator: str, width: int) -> None:
    """Refuse lines with more or fewer fields than the first, which pandas shifts or pads."""
    if b'"' in content:
        rows = _rows(path, content, separator)
        ragged = next(((n, len(row)) for n, row in rows if len(row) != width), None)
    else:
        ragged = _ragged_line(content, separator, width)
    if ragged is not None:
        line, found = ragged
        raise ValueError(f"line {line} of '{path}' must have {width} fields (got {found})")


def _ragged_line(content: bytes, separator: str, width: int) -> tuple[int, int] | None:
    """The number of the first line that has not ``width`` fields, and how many it has."""
    begin, line = 0, 1
    while begin < len(content):
        end = content.find(b"\n", begin + _BLOCK) + 1 or len(content)
        byte = np.frombuffer(content, np.uint8, end - begin, begin)
        stop = np.flatnonzero(byte == ord("\n"))
        if byte[-1] != ord("\n"):
            stop = np.append(stop, byte.size)
        start = np.append(0, stop[:-1] + 1)
        separators = np.flatnonzero(byte == ord(separator))
        fields = np.diff(np.searchsorted(separators, stop), prepend=0) + 1
        for at in np.flatnonzero((fields != width) & (start < stop)):
            if content[begin + start[at] : begin + stop[at]].strip():
                return line + int(at), int(fields[at])
        begin, line = end, line + stop.size
    return None


def _refuse_long_integers(path: Path, name: str, column: Any) -> None:
    """Refuse integers that pandas reads as strings because they exceed 64 bits."""
    values = column.tolist() if column.dtype.kind == "O" else []
    if values and all(isinstance(v, str) and _INTEGER.fullmatch(v) for v in values):
        longest = max(values, key=len)
        raise ValueError(f"column '{name}' of '{path}' must hold 64-bit integers (got {longest})")


def _import(name: str, path: Path) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f"reading '{path}' needs {name}: pip install 'pyg_kd[tables]'") from error
