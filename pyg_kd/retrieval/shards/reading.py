"""Shards of lists, read back one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.shards.job import KIND
from pyg_kd.shards import open_shards
from pyg_kd.shards.parquet import padded, read_columns

Array = npt.NDArray[Any]


class ListShard(NamedTuple):
    """The lists of the users of a file.

    Args:
        users: Original ids, int64 or objects that are strings, ``[n]``.
        items: Original ids of items, best first, ``[n, k]``; padded with -1, or ``None``.
        scores: Their scores, float32 ``[n, k]``; padded with ``-inf``.
    """

    users: Array
    items: Array
    scores: Array


def read_list_shards(folder: str | os.PathLike[str]) -> Iterator[ListShard]:
    r"""The lists that :func:`write_list_shards` wrote, file by file.

    Args:
        folder: A complete folder.

    Returns:
        An iterator, which checks the digest of every file that it comes to.

    Raises:
        FileNotFoundError: If there is no such folder.
        ImportError: If ``pyarrow`` is not installed.
        ShardError: If a file is missing or a bit of it wrong, or the shards are not complete or of
            another kind.
    """
    shards = open_shards(folder, KIND)
    return (_shard(content, shards.request["k"]) for _, content in shards.each(KIND))


def _shard(content: bytes, k: int) -> ListShard:
    columns = read_columns(content, ["user", "items", "scores"])
    text = str(columns["items"].type.value_type) == "string"
    return ListShard(
        columns["user"].to_numpy(zero_copy_only=False),
        padded(columns["items"], k, None if text else -1),
        padded(columns["scores"], k, -np.inf),
    )
