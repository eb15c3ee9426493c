"""Extracting the lists of many users into files, by one process or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.graph import interactions, node_ids
from pyg_kd.knowledge.extraction import (
    DEFAULT_ITEMS,
    check_length,
    check_teacher,
    finite_representations,
)
from pyg_kd.knowledge.requirements import graph_fingerprint, source_fingerprint
from pyg_kd.knowledge.shards.job import Extraction
from pyg_kd.models.base import Recommender
from pyg_kd.shards import run_job
from pyg_kd.shards.parquet import Ids, arrow
from pyg_kd.typing import ITEM, USER

#: Rows of a part by default.
ROWS = 2**16


def extract_shards(
    teacher: Recommender,
    data: HeteroData,
    folder: str | os.PathLike[str],
    *,
    num_items: int | None = None,
    num_users: int = 0,
    users: Tensor | Sequence[int] | None = None,
    rows: int = ROWS,
    vectors: bool = True,
    workers: int = 1,
    threads: int = 1,
    engine: str = "process",
    rank: int | None = None,
    world_size: int | None = None,
    overwrite: bool = False,
    row_block: int | None = None,
    col_tile: int | None = None,
    progress: bool = False,
    trusted: bool = False,
) -> bool:
    r"""Write a trained teacher's representations and rankings as Parquet files.

    What :func:`~pyg_kd.knowledge.extract_knowledge` attaches to a graph, in files of ``rows`` users
    or items each, which :func:`load_shards` reads back, all or some, and every other program that
    reads Parquet. The memory of a process does not grow with the number of lists.

    A file is written as a whole, and its digest noted. The same call goes on where an earlier one
    was interrupted or killed, and ends with the same bytes, whatever the number of workers. So
    several processes can share the work, on this machine (``workers``), on Ray Data (``engine``)
    or started elsewhere, such as by ``torchrun`` (``rank`` and ``world_size``); all have to see
    the same folder.

    The folder holds, when all is done,

    * ``users-00000.parquet``, ...: ``node``, the position in the graph; ``user``, the original id
      (``raw_id``, or else the position); ``items``, the positions of the top ``num_items`` unseen
      items, best first, with their ``scores``, float32; ``vector``, the representation,
    * ``items-00000.parquet``, ...: the same of items, with ``item``, and ``users`` and ``scores``
      of the top ``num_users`` users. They are found in the same pass,
    * ``manifest.json``, written last: the fingerprints of graph and teacher, what was asked for,
      and the digest of every file.

    Args:
        teacher: A trained model.
        data: The graph it was fitted on.
        folder: Where the files go.
        num_items: Items to keep for each user; 0 for none. By default 500, or the whole
            catalogue if that is smaller.
        num_users: Users to keep for each item; 0 (default) for none.
        users: Rank only for these users, ``[n]`` integers; others are not in the files.
        rows: Users, or items, in a file. A worker holds the lists of so many, and where
            ``num_users`` is given the lists of all items besides.
        vectors: Write representations, if they are embeddings (``teacher.latent``). Half precision
            is widened to float32.
        workers: Processes on this machine, or actors of Ray. With one thread each, processes share
            the memory of this one on Linux; otherwise each has a copy, and the main module of the
            program is imported again, so it needs ``if __name__ == "__main__"``.
        threads: Threads of each of them. The last bits of scores may depend on it.
        engine: ``"process"``, or ``"ray"`` for Ray Data, on the cluster that is connected or else
            on this machine.
        rank: Which of several processes this is that were started elsewhere; by default what
            ``RANK`` and ``WORLD_SIZE`` of the environment say, which ``torchrun`` sets.
        world_size: How many they are. The last one to end does what needs all parts.
        overwrite: Replace shards of another request, which are refused otherwise.
        row_block: Users ranked at once; chosen automatically by default.
        col_tile: Items ranked at once; chosen automatically by default.
        progress: Show progress on the standard error stream.
        trusted: Accept a teacher that was fitted on another graph; see
            :func:`~pyg_kd.knowledge.extract_knowledge`.

    Returns:
        Whether the folder is complete; false where other processes are still at work.

    Raises:
        ImportError: If ``pyarrow``, or for its engine ``ray``, is not installed.
        TypeError: If ``teacher`` is not a recommender, or a length is not an integer.
        ValueError: If the teacher does not fit the graph, a representation is not finite, a
            list would be longer than what it ranks, ``num_users`` comes with ``users``, or the
            folder holds something else or another process is at work in it.
        RuntimeError: If a worker ended before its work was done.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.knowledge import load_shards
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> with TemporaryDirectory() as folder:
        ...     extract_shards(MF(data, dim=4), data, folder, num_items=10, rows=8)
        ...     load_shards(folder, data)["user"].teacher_items.shape
        True
        torch.Size([20, 10])
    """
    arrow()
    blocks = {"row_block": row_block, "col_tile": col_tile}
    told = {name: value for name, value in blocks.items() if value is not None}
    require_count(rows=rows, threads=threads, **told)
    check_teacher(teacher, data, trusted)
    edges = interactions(data)
    num_items = min(DEFAULT_ITEMS, edges.num_items) if num_items is None else num_items
    check_length("num_items", num_items, edges.num_items)
    check_length("num_users", num_users, edges.num_users)
    if users is not None and num_users:
        raise ValueError(f"'num_users' must be 0 where 'users' are given (got {num_users})")
    some = None if users is None else node_ids(data, USER, "users", users).unique()
    x_dict = finite_representations(teacher, data)
    _check_device(x_dict[USER], workers, engine)
    job = Extraction(
        about={
            "graph_fingerprint": graph_fingerprint(data),
            "teacher_fingerprint": source_fingerprint(teacher, data),
            "teacher_inner_product": teacher.inner_product,
        },
        teacher=None if _plain(teacher) else teacher,
        x_user=x_dict[USER],
        x_item=x_dict[ITEM],
        seen=edges.by_user(),
        raw_ids={node_type: _raw_ids(data, node_type) for node_type in (USER, ITEM)},
        users=some,
        num_items=int(num_items),
        num_users=int(num_users),
        rows=int(rows),
        vectors=bool(vectors) and teacher.latent,
        threads=int(threads),
        blocks=blocks,
    )
    shared: dict[str, Any] = {"workers": workers, "engine": engine}
    return run_job(
        job, folder, rank=rank, world_size=world_size, overwrite=overwrite, progress=progress,
        label="extracting", **shared,
    )  # fmt: skip


def _check_device(x: Tensor, workers: int, engine: str) -> None:
    if x.device.type != "cpu" and (workers != 1 or engine != "process"):
        raise ValueError(
            "'workers' and 'engine' are for graphs on the CPU: start a process for each device "
            f"(got {workers} workers, engine {engine!r}, on {x.device})"
        )


def _plain(teacher: Recommender) -> bool:
    """Whether scores are products of matrices, which need no model."""
    return type(teacher).score_block is Recommender.score_block


def _raw_ids(data: HeteroData, node_type: str) -> Ids | None:
    found = data[node_type].get("raw_id")
    if isinstance(found, Tensor):
        return np.asarray(found.cpu().numpy().astype(np.int64))
    return None if found is None else [str(value) for value in found]
