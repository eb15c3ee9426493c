"""A sharded student as one that is not: mapped from files, and as a bundle that serves."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd.models import MF
from pyg_kd.retrieval.bundle import save_student
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.sharding.together import first_does


def map_model(model: ShardedMF, data: HeteroData, folder: str | Path) -> MF:
    r"""Write the tables to files that any process can map, and return a model of these.

    It is a model like any other, for evaluation, extraction of knowledge and export, and holds in
    memory what was read of it. All processes call this, and need the same folder.

    Args:
        model: The sharded model.
        data: The training graph.
        folder: Where to write ``user.npy`` and ``item.npy``, float32 ``[U, d]`` and ``[I, d]``.

    Returns:
        The model, in every process. Its tables are not trained; changes to them are its own, and
        it stays as it is when another model is written to the same folder.

    Raises:
        ValueError: If ``data`` has other sizes.
    """
    folder = Path(folder)
    paths = {name: folder / f"{name}.npy" for name in model.sizes}
    dist.barrier()  # who still reads older files on another machine would lose them
    first_does(lambda: _make_files(model, paths))
    for name, path in paths.items():
        _write_own(model, name, path)
    dist.barrier()
    with torch.device("meta"):
        plain = MF(data, model.dim)
    tables = {name: np.load(path, mmap_mode="c") for name, path in paths.items()}
    plain.user_embedding, plain.item_embedding = (
        nn.Parameter(torch.from_numpy(tables[name]), requires_grad=False) for name in model.sizes
    )
    plain.check_data(data)
    plain.fitted_on = model.fitted_on
    dist.barrier()  # whoever removes the files waits until all have them open
    return plain


def save_sharded_student(
    model: ShardedMF, path: str | Path, *, graph: HeteroData, **options: Any
) -> dict[str, Any]:
    r"""Write a sharded student as a bundle, that of an :class:`~pyg_kd.models.MF` of its tables.

    All processes call this. The first one writes the bundle, from files beside it that are mapped
    and removed afterwards; :func:`~pyg_kd.retrieval.save_student` describes the rest.

    Args:
        model: The sharded student.
        path: A folder, which is made, is empty, or holds a bundle, which is replaced at once.
        graph: The training graph.
        **options: Further arguments of :func:`~pyg_kd.retrieval.save_student`.

    Returns:
        The manifest, in every process.

    Raises:
        BundleError: If there is something else at ``path``.
        ValueError: As :func:`~pyg_kd.retrieval.save_student`.
    """
    beside = Path(path).absolute().parent
    folder = first_does(lambda: _scratch(beside))
    try:
        plain = map_model(model, graph, folder)
        return first_does(lambda: save_student(plain, path, graph=graph, **options))
    finally:
        if dist.get_rank() == 0:
            for file in Path(folder).iterdir():
                file.unlink()
            Path(folder).rmdir()


def _make_files(model: ShardedMF, paths: dict[str, Path]) -> None:
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # A model that maps the older file keeps it; cut short, it would end its process.
        path.unlink(missing_ok=True)
        shape = model.sizes[name], model.dim
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape).flush()


def _write_own(model: ShardedMF, name: str, path: Path) -> None:
    """Write the rows of this process; by bytes, as other machines may write to the same page."""
    start = np.load(path, mmap_mode="r").offset
    with path.open("r+b") as file:
        for first, rows in model.local_rows(name):
            file.seek(start + first * model.dim * np.dtype(np.float32).itemsize)
            for part in rows.split(1 << 16):
                file.write(part.cpu().contiguous().numpy().data)
        file.flush()
        os.fsync(file.fileno())


def _scratch(beside: Path) -> str:
    beside.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix=".tables-", dir=beside)
