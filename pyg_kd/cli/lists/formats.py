"""The forms of lists in files: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.extras import need

Array = npt.NDArray[Any]

COLUMNS = ("user", "rank", "item", "score")


class Lists(NamedTuple):
    """The lists of some users: ids ``[n]``, ids of items ``[n, k]``, scores float32 ``[n, k]``."""

    users: list[Any]
    items: Array
    scores: Array

    @property
    def listed(self) -> Array:
        """Which places are no padding, bool ``[n, k]``."""
        return np.asarray(self.scores != -np.inf)


class Format:
    """A form of lists: how a part is written, and how parts become a file."""

    def write(self, lists: Sequence[Lists], path: Path) -> None:
        """Write a part."""
        with path.open("w", encoding="utf-8", newline="") as file:
            for some in lists:
                file.write(self.text(some))

    def merge(self, parts: Sequence[Path], path: Path) -> None:
        """Make a file of parts."""
        with path.open("wb") as file:
            file.write(self.head.encode())
            for part in parts:
                with part.open("rb") as content:
                    shutil.copyfileobj(content, file, 1 << 20)

    #: The first line.
    head = ""

    def text(self, lists: Lists) -> str:
        """Lists as text."""
        raise NotImplementedError


class Separated(Format):
    """CSV or TSV: a line for each place of a list."""

    def __init__(self, separator: str) -> None:
        self.separator = separator
        self.head = separator.join(COLUMNS) + "\n"

    def text(self, lists: Lists) -> str:
        """A line for each item."""
        out = io.StringIO()
        row, place = lists.listed.nonzero()
        users = [lists.users[i] for i in row.tolist()]
        items, scores = lists.items[row, place].tolist(), _shortest(lists.scores[row, place])
        writer = csv.writer(out, delimiter=self.separator, lineterminator="\n")
        writer.writerows(zip(users, (place + 1).tolist(), items, scores, strict=True))
        return out.getvalue()


class JsonLines(Format):
    """A JSON object on a line for each user."""

    def text(self, lists: Lists) -> str:
        """A line for each user."""
        length = lists.listed.sum(1).tolist()
        items = lists.items.tolist()
        scores = np.reshape(_shortest(lists.scores.ravel()), lists.scores.shape).tolist()
        lines = []
        for n, user, some, values in zip(length, lists.users, items, scores, strict=True):
            entry = {"user": user, "items": some[:n], "scores": [float(v) for v in values[:n]]}
            lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
        return "".join(lines)


class Parquet(Format):
    """A row for each place of a list; a part is a row group.

    Args:
        text_users: Whether ids of users are text.
        text_items: Whether ids of items are text.
    """

    def __init__(self, text_users: bool, text_items: bool) -> None:
        self.arrow = need("pyarrow", "tables", "Parquet")
        self.parquet = need("pyarrow.parquet", "tables", "Parquet")
        text, integer = self.arrow.string(), self.arrow.int64()
        kinds = (
            text if text_users else integer,
            self.arrow.int32(),
            text if text_items else integer,
            self.arrow.float32(),
        )
        self.schema = self.arrow.schema(list(zip(COLUMNS, kinds, strict=True)))

    def write(self, lists: Sequence[Lists], path: Path) -> None:
        """Write a part."""
        tables = [self.schema.empty_table(), *map(self.table, lists)]
        self.parquet.write_table(self.arrow.concat_tables(tables), path)

    def table(self, lists: Lists) -> Any:
        """Lists as a table of Arrow."""
        row, place = lists.listed.nonzero()
        users = [lists.users[i] for i in row.tolist()]
        items, scores = lists.items[row, place], lists.scores[row, place]
        columns = [users, (place + 1).astype(np.int32), items.tolist(), scores.astype(np.float32)]
        return self.arrow.table(columns, schema=self.schema)

    def merge(self, parts: Sequence[Path], path: Path) -> None:
        """Make a file whose row groups are the parts."""
        with self.parquet.ParquetWriter(path, self.schema) as writer:
            for part in parts:
                writer.write_table(self.parquet.read_table(part))


def format_of(path: str, *, text_users: bool = True, text_items: bool = True) -> Format:
    r"""The form that the ending of a file asks for.

    Args:
        path: The file, or ``-``.
        text_users: Whether ids of users are text.
        text_items: Whether ids of items are text.

    Raises:
        ValueError: If it asks for none.
        ImportError: If a package is missing.
    """
    ending = Path(path).suffix.lower()
    if ending in (".csv", ".tsv"):
        return Separated("," if ending == ".csv" else "\t")
    if ending in (".jsonl", ".ndjson") or path == "-":
        return JsonLines()
    if ending in (".parquet", ".pq"):
        return Parquet(text_users, text_items)
    raise ValueError(f"'out' must end in .csv, .tsv, .jsonl or .parquet, or be - (got {path!r})")


def _shortest(scores: Array) -> list[str]:
    """The shortest texts that float32 numbers are read back from."""
    return [str(value) for value in scores.astype(np.float32).astype(str).tolist()]
