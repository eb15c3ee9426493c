"""The best of many scored rows, kept as integers that sort by score and then by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint64]

#: A place without a row; it sorts after every key.
EMPTY = np.uint64(2**64 - 1)

#: Rows that a key has room for.
MAX_ROWS = 2**32

#: Scores below it are not listed: those of minus infinity.
LOWEST = np.float32(np.finfo(np.float32).min)

SIGN = np.int32(31)
MAGNITUDE = np.int32(2**31 - 1)


def make_keys(scores: Float32, rows: Array) -> Keys:
    r"""Integers whose order is: score descending, then row ascending.

    The upper half is the score, the lower half the row. Both zeros are one score.

    Args:
        scores: float32 ``[m]``, none of them NaN.
        rows: Integers ``[m]`` below ``2**32``.

    Example:
        >>> keys = make_keys(np.array([1.0, 2.0, 1.0], np.float32), np.array([7, 5, 6]))
        >>> np.sort(keys) & np.uint64(0xFFFFFFFF)
        array([5, 6, 7], dtype=uint64)
    """
    bits = _flip((scores + np.float32(0)).view(np.int32))
    keys: Keys = bits.view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= rows.astype(np.uint64, copy=False)
    return keys


def key_scores(keys: Keys) -> Float32:
    """The scores that went into keys, any shape; those of empty places have no meaning."""
    high = (keys >> np.uint64(32)).astype(np.uint32).view(np.int32)
    scores: Float32 = _flip(high).view(np.float32)
    return scores


def _flip(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Bits of float32 to unsigned integers in descending order, and back."""
    turned: npt.NDArray[np.int32] = bits ^ (~(bits >> SIGN) & MAGNITUDE)
    return turned


def unpack_keys(keys: Keys) -> tuple[npt.NDArray[np.int64], Float32]:
    """Rows, int64, and scores of keys, padded with -1 and minus infinity where empty."""
    empty = keys == EMPTY
    rows = (keys & np.uint64(MAX_ROWS - 1)).astype(np.int64)
    scores = key_scores(keys)
    rows[empty], scores[empty] = -1, -np.inf
    return rows, scores


def chunk_floor(scores: Float32, k: int) -> Float32 | None:
    r"""A score that at least ``k`` entries of each row reach.

    Every ``width``-th column belongs to one chunk. The ``k`` largest maxima of chunks are ``k``
    entries of a row, so that the smallest of them is a bound. None where there are too few
    columns for a bound worth having.

    Args:
        scores: ``[n, m]``.
        k: Length of the lists.

    Returns:
        ``[n]``; NaN if the maxima of a row are NaN.
    """
    n, m = scores.shape
    width = max(4 * k, int((m * k) ** 0.5))
    depth = m // width
    if depth < 2:
        return None
    maxima = scores[:, : depth * width].reshape(n, depth, width).max(axis=1)
    maxima.partition(width - k, axis=1)
    bound: Float32 = maxima[:, width - k]
    return bound


class Pool:
    r"""Candidates of several lists, of which the best ``k`` are kept.

    Args:
        num_lists: How many lists.
        k: Their length.
    """

    def __init__(self, num_lists: int, k: int) -> None:
        self.k = k
        self.keys: Keys = np.full((num_lists, 4 * k + 32), EMPTY)
        self.fill = np.zeros(num_lists, np.int64)
        #: What a score must reach to be worth adding.
        self.floor: Float32 = np.full(num_lists, LOWEST)

    def add(self, lists: Array, keys: Keys) -> None:
        """Add candidates ``[m]`` to lists ``[m]``, which ascend."""
        count = np.bincount(lists, minlength=len(self.fill))
        if (self.fill + count).max() > self.keys.shape[1]:
            self.shrink()
            self._make_room(int((self.fill + count).max()))
        first = self.fill - count.cumsum() + count
        place = first[lists] + np.arange(len(lists)) + lists * self.keys.shape[1]
        self.keys.reshape(-1)[place] = keys
        self.fill += count

    def _make_room(self, width: int) -> None:
        if width > self.keys.shape[1]:
            wider = np.full((len(self.keys), width), EMPTY)
            wider[:, : self.k] = self.keys[:, : self.k]
            self.keys = wider

    def shrink(self) -> None:
        """Keep the best ``k`` of each list and raise the floor.

        Rows are added in ascending order, so that a later one needs a higher score, not the same.
        """
        self.keys.partition(self.k - 1, axis=1)
        self.keys[:, self.k :] = EMPTY
        self.fill = np.minimum(self.fill, self.k)
        full = self.fill == self.k
        worst = key_scores(self.keys[full, self.k - 1])
        self.floor[full] = np.nextafter(worst, np.float32(np.inf))

    def best(self) -> Keys:
        """The best ``k`` of each list in order, ``[num_lists, k]``."""
        self.shrink()
        return np.sort(self.keys[:, : self.k], axis=1)
