"""The search for a single query: one product with all rows, in as few steps as possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.search.products import SCRATCH, Float32, Rows, multiply
from pyg_kd.retrieval.search.selection import LOWEST, Keys, make_keys
from pyg_kd.retrieval.search.tiles import FIRST_ENTRIES, refuse_nan

Array = npt.NDArray[Any]

#: Rows that are scored at once; more go through tiles.
MOST_ROWS = FIRST_ENTRIES

#: Maxima that the scores are reduced to, at most.
MOST_MAXIMA = 2**12


def search_one(x: Float32, table: Rows, k: int, barred: list[Array], ids: Array | None) -> Keys:
    r"""The keys of the best rows of one query, in order.

    Args:
        x: float32 ``[1, d]``.
        table: The rows searched.
        k: Length of the list.
        barred: Rows that are not listed, in any order.
        ids: What the rows are called; their positions by default.

    Returns:
        At most ``k`` keys, ``[1, m]``.
    """
    scores = SCRATCH.get("scores", len(table), np.float32)
    multiply(table, x, 0, len(table), scores[:, None])
    for rows in barred:
        scores[rows] = -np.inf
    below = np.less(scores, _floor(scores, k), out=SCRATCH.get("below", len(scores), np.bool_))
    # Not "reaches the floor", which NaN doesn't.
    entry = np.flatnonzero(np.logical_not(below, out=below))
    values = scores[entry]
    refuse_nan(values)
    keys = make_keys(values, entry if ids is None else ids[entry])
    keys.sort()
    return keys[None, :k]


def _floor(scores: Float32, k: int) -> np.float32:
    """A score that at least ``k`` others reach: the ``k``-th largest of the maxima of chunks."""
    width = max(min(MOST_MAXIMA, len(scores) // 64), 8 * k)
    depth = len(scores) // width
    if depth < 2:
        return LOWEST
    maxima = scores[: depth * width].reshape(depth, width).max(axis=0)
    maxima.partition(width - k)
    floor: np.float32 = np.maximum(maxima[width - k], LOWEST)
    return floor
