"""Ranges of rows of large tables in files: written by whoever has them, read by whoever needs them.

A file holds some rows of a table and what belongs to them, tensors by name, in the safetensors
format. Whoever reads it is told its digest, and reads only rows that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pyg_kd.files import atomic_write, sha256_of


@dataclass(frozen=True)
class RowFile:
    """A file of rows ``first`` to ``first + count`` of a table."""

    table: str
    first: int
    count: int
    file: str
    size: int
    sha256: str

    @classmethod
    def from_json(cls, value: Any) -> RowFile:
        """What :meth:`to_json` gave, checked.

        Raises:
            ValueError: If it is anything else.
        """
        kinds = {"table": str, "first": int, "count": int, "file": str, "size": int, "sha256": str}
        if not isinstance(value, dict) or value.keys() != kinds.keys():
            raise ValueError(f"a file must be told by {list(kinds)} (got {value!r:.80})")
        for name, kind in kinds.items():
            if type(value[name]) is not kind or (kind is int and value[name] < 0):
                raise ValueError(
                    f"{name!r} of a file must be {kind.__name__} (got {value[name]!r})"
                )
        if Path(value["file"]).name != value["file"]:
            raise ValueError(f"'file' must be a name without a folder (got {value['file']!r})")
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def write_rows(
    folder: Path, table: str, first: int, count: int, tensors: Mapping[str, Tensor], mark: str
) -> RowFile:
    r"""Write rows of a table, atomically.

    Args:
        folder: Where to.
        table: Name of the table.
        first: Number of the first row.
        count: Number of rows.
        tensors: The rows and what belongs to them, by name, each ``[count, ...]``.
        mark: A part of the file's name that tells it from those written before.
    """
    name = f"{table}-{mark}-{first:012d}.safetensors"
    held = {key: x.detach().cpu().contiguous() for key, x in tensors.items()}
    with atomic_write(folder / name) as temporary:
        save_file(held, temporary)
        size = temporary.stat().st_size
        with temporary.open("rb") as file:
            sha256 = sha256_of(file, size)
    return RowFile(table, first, count, name, size, sha256)


def check_file(folder: Path, told: RowFile) -> None:
    """Raise ``ValueError`` unless a file is the one that was written."""
    path = folder / told.file
    try:
        with path.open("rb") as file:
            if path.stat().st_size != told.size or sha256_of(file, told.size) != told.sha256:
                raise ValueError(f"{str(path)!r} is damaged: its checksum does not fit its content")
    except OSError as error:
        raise ValueError(f"{str(path)!r} is missing ({error})") from error


def check_cover(files: Sequence[RowFile], sizes: Mapping[str, int]) -> None:
    """Raise ``ValueError`` unless files hold every row of all tables once."""
    for table, size in sizes.items():
        stop = 0
        for told in sorted((f for f in files if f.table == table), key=lambda f: f.first):
            if told.first != stop:
                break
            stop += told.count
        else:
            if stop == size:
                continue
        raise ValueError(f"files of {table!r} do not hold each of its {size} rows once")


def overlapping(
    files: Sequence[RowFile], table: str, first: int, count: int
) -> Iterator[tuple[RowFile, slice, slice]]:
    """Files with some of ``count`` rows: where these are in the file, and where among the rows."""
    for told in files:
        start, stop = max(first, told.first), min(first + count, told.first + told.count)
        if told.table == table and start < stop:
            yield (
                told,
                slice(start - told.first, stop - told.first),
                slice(start - first, stop - first),
            )


def read_rows_into(
    folder: Path, files: Sequence[RowFile], table: str, first: int, name: str, into: Tensor
) -> None:
    r"""Read rows from ``first`` on into a tensor of such rows.

    Args:
        folder: Where the files are, checked before.
        files: All files.
        table: Name of the table.
        first: Number of the first row of ``into``.
        name: Name of the tensor in the files.
        into: Where to, ``[n, ...]``.

    Raises:
        ValueError: If a file has no such tensor.
    """
    for told, there, here in overlapping(files, table, first, len(into)):
        try:
            with safe_open(folder / told.file, framework="pt") as file:
                into[here].copy_(file.get_slice(name)[there])
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(
                f"{str(folder / told.file)!r} has no {name!r} of shape {list(into.shape[1:])} "
                f"({error})"
            ) from error
