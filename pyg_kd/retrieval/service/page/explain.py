"""The part of the graph around a recommended item: what connects it with a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.index import TopKIndex

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Neighbourhood:
    r"""The items of a history that are most similar to an item, and users who have both.

    Args:
        similar: Items of the history, most similar first, int64 ``[s]``.
        cosine: The cosine of each with the item, float64 ``[s]``.
        both: How many other users have each and the item, int64 ``[s]``.
        users: Some of these users, int64 ``[n]``.
        shared: Which of ``similar`` each of them has, bool ``[n, s]``.
    """

    similar: Rows
    cosine: npt.NDArray[np.float64]
    both: Rows
    users: Rows
    shared: npt.NDArray[np.bool_]


def neighbourhood(
    index: TopKIndex,
    item: int,
    history: npt.NDArray[Any],
    *,
    user: int = -1,
    num_items: int = 6,
    num_users: int = 6,
) -> Neighbourhood:
    r"""What connects an item with a history.

    Similar means a large cosine :math:`\cos(x_i, x_j)` of the item vectors. Of the users who have
    the item and at least one of the similar ones, those with most similarity per entry come first:
    :math:`\sum_j \max(\cos_j, 0) / \log_2(2 + d_u)` over the shared items, with :math:`d_u` the
    number of their items, because who has almost everything explains nothing. The seen items of
    the index are read once, whoever asks; what was added since it was made is in ``history`` only.

    Args:
        index: Whose vectors and seen items are looked at.
        item: Row of the item.
        history: Rows of the user's items, int ``[h]``.
        user: Row of the user, who does not count as one who has both; -1 for none.
        num_items: The most similar items to take, up to 100.
        num_users: The most users to take.
    """
    history = np.unique(history)
    history = history[history != item]
    cosine = _cosines(index, item, history)
    best = np.argsort(-cosine, kind="stable")[:num_items]
    similar, cosine = history[best].astype(np.int64), cosine[best]
    owners, shared = _shared(index, item, similar, user)
    ptr = index.seen.pattern.ptr
    degree = ptr[owners + 1] - ptr[owners]
    weight = shared @ np.clip(cosine, 1e-6, None) / np.log2(2 + degree)
    first = np.argsort(-weight, kind="stable")[:num_users]
    first = first[shared[first].any(1)]  # there may be fewer who share anything
    return Neighbourhood(similar, cosine, shared.sum(0), owners[first], shared[first])


def _cosines(index: TopKIndex, item: int, others: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    x = index.x_item.rows(np.append(others, item)).astype(np.float64)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cosine: npt.NDArray[np.float64] = (x[:-1] @ x[-1]).clip(-1, 1)
    return cosine


def _shared(
    index: TopKIndex, item: int, others: Rows, but: int
) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """The users who have an item, ``[n]``, and which of some others each has, bool ``[n, s]``."""
    ptr, col = index.seen.pattern
    place = np.full(index.num_items, -1, np.int8)
    place[others], place[item] = np.arange(len(others)), len(others)
    which = place[col]
    entry = np.flatnonzero(which >= 0)
    which, users = which[entry], np.searchsorted(ptr, entry, "right") - 1
    owners = users[which == len(others)]  # ascending; an item may be stored twice
    owners = owners[(owners != but) & (np.diff(owners, prepend=-1) > 0)]
    row = np.full(index.num_users, -1)
    row[owners] = np.arange(len(owners))
    at = row[users]
    kept = (at >= 0) & (which < len(others))
    shared = np.zeros((len(owners), len(others)), bool)
    shared[at[kept], which[kept]] = True
    return owners, shared
