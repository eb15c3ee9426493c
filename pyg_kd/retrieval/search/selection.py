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

#: Scores below it, those of minus infinity, are not listed.
LOWEST = np.float32(np.finfo(np.float32).min)

SIGN_SHIFT = np.int32(31)
MAGNITUDE = np.int32(2**31 - 1)
HALF = np.uint64(32)


def make_keys(scores: Float32, rows: Array) -> Keys:
    r"""Integers whose order is: score descending, then row ascending.

    The upper half is the score, the lower half the row. Both zeros are one score.

    Args:
        scores: float32, any shape, none of them NaN.
        rows: Integers below ``2**32``, of a shape that broadcasts to that of the scores.

    Example:
        >>> keys = make_keys(np.array([1.0, 2.0, 1.0], np.float32), np.array([7, 5, 6]))
        >>> (np.sort(keys) & np.uint64(MAX_ROWS - 1)).tolist()
        [5, 6, 7]
    """
    bits = _flip((scores + np.float32(0)).view(np.int32))
    keys: Keys = bits.view(np.uint32).astype(np.uint64)
    keys <<= HALF
    keys |= rows.astype(np.uint64)
    return keys


def unpack_keys(keys: Keys) -> tuple[npt.NDArray[np.int64], Float32]:
    """Rows, int64, and scores of keys, padded with -1 and minus infinity where empty."""
    empty = keys == EMPTY
    rows = (keys & np.uint64(MAX_ROWS - 1)).astype(np.int64)
    scores = key_scores(keys)
    rows[empty], scores[empty] = -1, -np.inf
    return rows, scores


def key_scores(keys: Keys) -> Float32:
    """The scores that went into keys, any shape; those of empty places have no meaning."""
    high = (keys >> HALF).astype(np.uint32).view(np.int32)
    scores: Float32 = _flip(high).view(np.float32)
    return scores


def _flip(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Bits of float32 to unsigned integers in descending order, and back."""
    turned: npt.NDArray[np.int32] = bits ^ (~(bits >> SIGN_SHIFT) & MAGNITUDE)
    return turned


def best_keys(keys: Keys, k: int) -> Keys:
    """The ``k`` smallest keys of each row, ``[n, k]`` in any order, of ``[n, m]``, ``m >= k``."""
    if keys.shape[1] > k:
        keys = np.partition(keys, k - 1, axis=1)[:, :k]
    return keys


class Pool:
    r"""Candidates of several lists, of which the best ``k`` are kept.

    Args:
        num_lists: How many lists, fewer than ``2**16``.
        k: Their length.
    """

    def __init__(self, num_lists: int, k: int) -> None:
        self.k = k
        self.keys: Keys = np.full((num_lists, k if num_lists == 1 else 2 * k + 32), EMPTY)
        self.fill = np.zeros(num_lists, np.int64)
        #: What a score must reach to be worth adding.
        self.floor: Float32 = np.full(num_lists, LOWEST)

    def add(self, lists: Array, keys: Keys) -> None:
        """Add keys ``[m]`` to lists, int64 ``[m]``."""
        if len(self.fill) == 1:
            used = int(self.fill[0])
            self.keys = np.concatenate([self.keys[0, :used], keys])[None]
            self.fill += len(keys)
            return
        count = np.bincount(lists, minlength=len(self.fill))
        total = self.fill + count
        self._make_room(int(total.max()))
        order = np.argsort(lists.astype(np.uint16), kind="stable")  # a radix sort
        lists = lists[order]
        first = self.fill - count.cumsum() + count
        first += np.arange(len(count)) * self.keys.shape[1]
        place = first[lists]
        place += np.arange(len(lists))
        self.keys.reshape(-1)[place] = keys[order]
        self.fill = total

    def _make_room(self, width: int) -> None:
        if width > self.keys.shape[1]:
            wider = np.full((len(self.keys), width), EMPTY)
            wider[:, : self.keys.shape[1]] = self.keys
            self.keys = wider

    def shrink(self) -> None:
        """Keep the best ``k`` of each list, and raise the floor of those that are full.

        Rows come in ascending order: a later one needs a higher score, not the same.
        """
        k, used = self.k, int(self.fill.max(initial=0))
        if used < k:
            return
        keys = self.keys[:, :used]
        if used > k:
            keys.partition(k - 1, axis=1)
            keys[:, k:] = EMPTY
        worst = keys[:, k - 1] if used > k else keys.max(axis=1)
        np.minimum(self.fill, k, out=self.fill)
        above = np.nextafter(key_scores(worst), np.float32(np.inf))
        self.floor = np.where(self.fill == k, above, self.floor)

    def best(self) -> Keys:
        """The best ``k`` of each list in order, ``[num_lists, k]``."""
        if self.fill.max(initial=0) > self.k:
            self.shrink()
        keys, missing = self.keys[:, : self.k], self.k - self.keys.shape[1]
        if missing > 0:
            keys = np.pad(keys, ((0, 0), (0, missing)), constant_values=EMPTY)
        return np.sort(keys, axis=1)
