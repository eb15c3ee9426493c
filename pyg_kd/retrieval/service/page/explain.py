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
    number of their items, because who has almost everything explains nothing. It reads the seen
    items of the index once; what was added since it was made is in ``history`` only.

    Args:
        index: Whose vectors and seen items are looked at.
        item: Row of the item.
        history: Rows of the user's items, int ``[h]``.
        user: Row of the user, who does not count as one who has both; -1 for none.
        num_items: The most similar items to take.
        num_users: The most users to take.
    """
    history = np.unique(history)
    history = history[history != item]
    cosine = _cosines(index, item, history)
    best = np.argsort(-cosine, kind="stable")[:num_items]
    similar, cosine = history[best].astype(np.int64), cosine[best]
    owners = _owners(index, item)
    owners = owners[owners != user]
    shared, degree = _owned(index, owners, similar)
    weight = shared @ np.clip(cosine, 1e-6, None) / np.log2(2 + degree)
    first = np.argsort(-weight, kind="stable")[:num_users]
    first = first[shared[first].any(1)]
    return Neighbourhood(similar, cosine, shared.sum(0), owners[first], shared[first])


def _cosines(index: TopKIndex, item: int, others: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    x = index.x_item.rows(np.append(others, item)).astype(np.float64)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cosine: npt.NDArray[np.float64] = (x[:-1] @ x[-1]).clip(-1, 1)
    return cosine


def _owners(index: TopKIndex, item: int) -> Rows:
    """The users who have an item, ascending, int64 ``[n]``."""
    ptr, col = index.seen.pattern
    rows: Rows = np.searchsorted(ptr, np.flatnonzero(col == item), "right") - 1
    return np.unique(rows)


def _owned(
    index: TopKIndex, users: Rows, items: Rows
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which of some items each user has, bool ``[n, s]``, and how many items they have at all."""
    ptr, col = index.seen.of(users)
    place = np.full(index.num_items, -1)
    place[items] = np.arange(len(items))
    at = place[col]
    listed = at >= 0
    owner = np.repeat(np.arange(len(users)), np.diff(ptr))
    shared = np.zeros((len(users), len(items)), bool)
    shared[owner[listed], at[listed]] = True
    return shared, np.diff(ptr)
