"""The options of the command ``recommend``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Wanted:
    """Whose lists, and of which items

    Args:
        bundle: The folder of a bundle, such as RUN/bundle.
        users: File with the id of a user on each line, or - for standard input, or a pipe; all
            users by default.
        history: File with the items of new users instead, a CSV, TSV or Parquet file with one
            interaction a line; it is read into memory.
        user: Column of the users in --history; its position from 0 if there is no header line.
        item: Column of the items in --history.
        k: Length of the lists.
        exclude_seen: Leave out what a user has seen.
        exclude: File with the ids of items that nobody gets, one a line.
        candidates: File with the ids of the only items to list, one a line.
        unknown: Users and items of a history that the bundle doesn't know: error, skip them, or
            list popular items.
    """

    bundle: str = field(metadata={"positional": True})
    users: str | None = None
    history: str | None = None
    user: str = "user"
    item: str = "item"
    k: int = 20
    exclude_seen: bool = True
    exclude: str | None = None
    candidates: str | None = None
    unknown: Literal["error", "skip", "popular"] = "error"


@dataclass(frozen=True)
class Listed:
    """The result

    Args:
        out: A .csv, .tsv, .jsonl or .parquet file, or - for JSON lines on standard output. An
            interrupted command is continued when it is given again.
        shards: Write a folder OUT of Parquet files with digests, one for each part, which --workers
            make; users have their items and scores in lists.
        overwrite: Replace a file, or shards of another command, that are there already.
        part_size: Users in a part; what an interruption may cost, and a row group in Parquet.
        backend: What ranks items: numpy, torch, faiss-flat, faiss-ivf, faiss-hnsw or hnswlib.
        verify: Compare the SHA-256 of the bundle's files.
        progress: Show progress on standard error.
    """

    out: str = "-"
    shards: bool = False
    overwrite: bool = False
    part_size: int = 20_000
    backend: str = "numpy"
    verify: bool = True
    progress: bool = True
