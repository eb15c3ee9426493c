"""Batch scoring: the lists of many users, by one process or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pyg_kd.checks import require_choice, require_count
from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.ids import listed
from pyg_kd.retrieval.shards.job import Listing
from pyg_kd.shards import run_job
from pyg_kd.shards.parquet import arrow

#: Users of a part by default.
ROWS = 2**16


def write_list_shards(
    bundle: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    k: int = 20,
    *,
    users: Sequence[Any] | None = None,
    histories: Sequence[Sequence[Any]] | None = None,
    exclude_seen: bool = True,
    exclude: Sequence[Any] | None = None,
    candidates: Sequence[Any] | None = None,
    unknown: Literal["raise", "popular"] = "raise",
    backend: str = "numpy",
    rows: int = ROWS,
    workers: int = 1,
    threads: int = 1,
    engine: str = "process",
    rank: int | None = None,
    world_size: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> bool:
    r"""Write the best items of all users of a bundle, or of some, as Parquet files.

    Files hold ``rows`` users each, in the order of the bundle or of ``users``: the columns
    ``user``, the original id; ``items``, original ids of the best items, best first; and
    ``scores``, float32. ``manifest.json``, written last, holds the digest of every file.

    The same call goes on where an earlier one was interrupted or killed, and ends with the same
    bytes, whatever the number of workers. For how processes share the work see
    :func:`~pyg_kd.knowledge.extract_shards`.

    Args:
        bundle: The folder of a student. Every process opens it, so all of them have to see it.
        folder: Where the files go.
        k: Length of the lists.
        users: Original ids of the users, ``[n]``; all users of the bundle by default.
        histories: The items of each of ``users``, ``[n]`` lists of original ids: they are then
            ranked as new users.
        exclude_seen: Leave out what each user has seen.
        exclude: Ids of further items to leave out; unknown ones are ignored.
        candidates: Ids of the only items to list; unknown ones are ignored.
        unknown: What unknown users get: ``"popular"`` items, or an error (``"raise"``).
        backend: What ranks items; see :func:`~pyg_kd.retrieval.backends.make_backend`.
        rows: Users of a file.
        workers: Processes on this machine, or actors of Ray.
        threads: Threads of each of them; see :func:`~pyg_kd.knowledge.extract_shards`.
        engine: ``"process"``, or ``"ray"`` for Ray Data.
        rank: Which of several processes this is that were started elsewhere; by default what
            ``RANK`` and ``WORLD_SIZE`` of the environment say.
        world_size: How many they are.
        overwrite: Replace shards of another request, which are refused otherwise.
        progress: Show progress on the standard error stream.

    Returns:
        Whether the folder is complete; false where other processes are still at work.

    Raises:
        BundleError: If the bundle is damaged.
        ImportError: If ``pyarrow``, or for its engine ``ray``, is not installed.
        UnknownId: If a user, or an item of a history, is unknown and ``unknown="raise"``.
        ValueError: If an option is wrong, or the folder holds something else or is at work.
        RuntimeError: If a worker ended before its work was done.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> from pyg_kd.retrieval import TopKIndex, save_index
        >>> from pyg_kd.retrieval.shards import read_list_shards
        >>> index = TopKIndex(np.eye(3), np.eye(3), user_ids=["ann", "bob", "eve"])
        >>> with TemporaryDirectory() as folder:
        ...     _ = save_index(index, f"{folder}/bundle")
        ...     write_list_shards(f"{folder}/bundle", f"{folder}/lists", k=1, rows=2)
        ...     [shard.items.tolist() for shard in read_list_shards(f"{folder}/lists")]
        True
        [[[0], [1]], [[2]]]
    """
    arrow()
    require_count(k=k, rows=rows, threads=threads)
    require_choice(("raise", "popular"), unknown=unknown)
    if histories is not None and (users is None or len(users) != len(histories)):
        known = None if users is None else len(users)
        raise ValueError(f"'histories' must be of 'users' (got {len(histories)} of {known} users)")
    index = load_student(bundle, backend=backend)
    some: Any = None if users is None else listed(users)
    options: dict[str, Any] = {
        "exclude_seen": exclude_seen,
        "exclude": None if exclude is None else listed(exclude),
        "candidates": None if candidates is None else listed(candidates),
    }
    if histories is None:
        options["unknown"] = unknown
        if some is not None and unknown == "raise":
            index.users.rows(some, "users")
    job = Listing(
        bundle=Path(os.path.realpath(bundle)),
        sha256=str(index.info["sha256"]),
        num_users=index.num_users,
        users=some,
        histories=histories,
        k=int(k),
        options=options,
        backend=backend,
        rows=int(rows),
        threads=int(threads),
    )
    vars(job)["index"] = index  # forked workers share it
    return run_job(
        job, folder, workers=workers, engine=engine, rank=rank, world_size=world_size,
        overwrite=overwrite, progress=progress, label="listing",
    )  # fmt: skip
