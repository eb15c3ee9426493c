"""Checkpoints of a run on sharded tables, which another number of processes can go on from.

A folder holds ``sharded.json`` and the files that it names: rows of both tables with what the
optimiser keeps of them, each written by the process that has them, and one file of the methods'
own parameters. The file that names them is written last, so there is always a whole checkpoint.
All processes need the same folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from pyg_kd.files import atomic_write
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.sharding.row_files import (
    RowFile,
    check_cover,
    check_file,
    overlapping,
    read_rows_into,
    write_rows,
)
from pyg_kd.training.history import is_count, is_row

MANIFEST = "sharded.json"
FORMAT = "pyg_kd.sharded_checkpoint"

#: Names of tensors in the files of rows: the table, its best validated state, and moments.
WEIGHT, BEST = "weight", "best"

#: The table, in the manifest, that the methods' parameters are told as.
METHODS = "methods"

Best = dict[str, list[Tensor]]


def save_tables(folder: Path, model: ShardedMF, best: Best | None, mark: str) -> list[RowFile]:
    """Write the rows that this process holds."""
    written = []
    for name in model.sizes:
        moments = model.local_moments(name)
        for place, held in enumerate(model.local_rows(name)):
            tensors = {WEIGHT: held.tensor}
            tensors |= {key: kept[place].tensor for key, kept in moments.items()}
            if best is not None:
                tensors[BEST] = best[name][place]
            written.append(write_rows(folder, name, held.first, len(held.tensor), tensors, mark))
    return written


def load_tables(
    folder: Path, files: Sequence[RowFile], model: ShardedMF, best: bool
) -> Best | None:
    """Read the rows that this process holds; the best ones if there are."""
    found: Best = {}
    for name in model.sizes:
        moments, found[name] = model.local_moments(name), []
        for place, held in enumerate(model.local_rows(name)):
            parts = {WEIGHT: held.tensor}
            parts |= {key: kept[place].tensor for key, kept in moments.items()}
            if best:
                parts[BEST] = torch.empty_like(held.tensor)
                found[name].append(parts[BEST])
            for key, into in parts.items():
                read_rows_into(folder, files, name, held.first, key, into)
    return found if best else None


def write_manifest(folder: Path, fields: dict[str, Any], own: Sequence[RowFile]) -> None:
    """Name the files of all processes, which makes a checkpoint of them; all call this."""
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, [told.to_json() for told in own])
    if dist.get_rank() == 0:
        files = [told for part in gathered for told in part]
        content = {"format": FORMAT, "version": 1, **fields, "files": files}
        text = json.dumps(content | {"sha256": _digest(content)}, indent=1)
        with atomic_write(folder / MANIFEST) as temporary:
            temporary.write_text(text, encoding="utf-8")
        named = {told["file"] for told in files}
        for path in folder.glob("*.safetensors"):
            if path.name not in named:
                path.unlink()
    dist.barrier()


def read_manifest(folder: Path, key: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    r"""The fields of a checkpoint of this run, its files as :class:`RowFile`.

    Args:
        folder: The folder.
        key: What must be the same for the run to go on.
        sizes: Rows by table.

    Raises:
        ValueError: If it is damaged, or of another run.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes())
        digest = found.pop("sha256")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is truncated, or no checkpoint ({error})") from error
    if digest != _digest(found):
        raise ValueError(f"{str(path)!r} is damaged: its checksum does not fit its content")
    if (found.get("format"), found.get("version")) != (FORMAT, 1):
        raise ValueError(
            f"{str(path)!r} is of the format {found.get('format')!r}, version "
            f"{found.get('version')!r} (expected {FORMAT!r}, version 1)"
        )
    for name, value in key.items():
        if found["key"].get(name) != value:
            raise ValueError(
                f"{str(path)!r} is from another run: {name} was {found['key'].get(name)!r}, is "
                f"{value!r}; use another 'checkpoint_dir', or delete the folder"
            )
    _check_progress(found, path)
    found["files"] = [RowFile.from_json(told) for told in found["files"]]
    check_cover(found["files"], sizes)
    return dict(found)


def check_files(folder: Path, files: Sequence[RowFile], model: ShardedMF) -> None:
    """Raise ``ValueError`` unless the files with rows of this process are as they were written."""
    needed = {told.file: told for told in files if told.table == METHODS}
    for name in model.sizes:
        for held in model.local_rows(name):
            for told, _, _ in overlapping(files, name, held.first, len(held.tensor)):
                needed[told.file] = told
    for told in needed.values():
        check_file(folder, told)


def _check_progress(found: dict[str, Any], path: Path) -> None:
    rows, value = found.get("rows"), found.get("best_value")
    sound = (
        isinstance(rows, list)
        and all(map(is_row, rows))
        and is_count(found.get("epoch"))
        and found["epoch"] == len(rows)
        and is_count(found.get("stale"))
        and (found.get("best_epoch") is None or is_count(found["best_epoch"]))
        and (value is None or (isinstance(value, float) and isfinite(value)))
        and isinstance(found.get("has_best"), bool)
        and isinstance(found.get("files"), list)
    )
    if not sound:
        raise ValueError(f"{str(path)!r} is no checkpoint: its progress is absurd")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
