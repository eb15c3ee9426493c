"""Bringing tables up to date without training: users and items are folded in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import Neighbors, interactions
from pyg_kd.retrieval.fold_in import FoldIn, fit_fold_in, fit_item_fold_in
from pyg_kd.retrieval.tables import Table
from pyg_kd.study.refresh.tables import Tables

Array = npt.NDArray[Any]

#: Known users on whom a fold-in is chosen, at most.
HOLDOUT_USERS = 500


def folded(tables: Tables, before: HeteroData, after: HeteroData, *, seed: int = 0) -> Tables:
    r"""Tables that know of later interactions, though nothing is trained.

    With :math:`f` the fold-in that :func:`~pyg_kd.retrieval.fold_in.fit_fold_in` chooses on users
    of ``before``, a user with a vector :math:`u` and items :math:`H`, now :math:`H'`, gets

    .. math::
        u' = f(H') + \frac{|H|}{|H'|} \left(u - f(H)\right),

    and a new one :math:`f(H')`; histories are of items with a vector. Then new items get vectors
    from all their users (:func:`~pyg_kd.retrieval.fold_in.fit_item_fold_in`), and last come users
    who have new items alone. Vectors of known items stay.

    Args:
        tables: The vectors, of what was in ``before``.
        before: The graph that the tables know.
        after: A graph of the same nodes with more edges.
        seed: Of the choice.
    """
    was, now = interactions(before), interactions(after)
    items = _numbered(tables.has_item)
    old, new = _histories(was.by_user(), items), _histories(now.by_user(), items)
    known = _array(tables.has_user)
    table = Table.of(_array(tables.item[tables.has_item]))
    rule = fit_fold_in(
        table,
        *_rows(old, known),
        x_user=_array(tables.user[tables.has_user]),
        holdout_users=HOLDOUT_USERS,
        seed=seed,
    )
    user = _updated(rule, _array(tables.user), known, old, new)
    has_user = tables.has_user | _tensor(np.diff(new[0]) > 0, tables.user)
    users = Tables(_tensor(user, tables.user), tables.item, has_user, tables.has_item)
    return _last_users(rule, _with_items(tables, users, was.by_item(), now.by_item(), seed), now)


def _updated(rule: FoldIn, x: Array, known: Array, old: Any, new: Any) -> Array:
    """The vectors of all users, zeros for those without items."""
    few, many = np.diff(old[0]), np.diff(new[0])
    fresh = rule(*new)
    kept = (few / np.maximum(many, 1)).astype(np.float32)[:, None] * (x - rule(*old))
    found: Array = np.where(known[:, None], fresh + kept, fresh)
    same = known & (few == many)
    found[same] = x[same]
    return found


def _with_items(tables: Tables, users: Tables, was: Neighbors, now: Neighbors, seed: int) -> Tables:
    """Vectors of items that had none, from the vectors of their users."""
    fresh = ~tables.has_item & (now.degree > 0)
    if not bool(fresh.any()):
        return users
    rule = fit_item_fold_in(
        _array(tables.user[tables.has_user]),
        _array(tables.item[tables.has_item]),
        *_rows(_histories(was, _numbered(tables.has_user)), _array(tables.has_item)),
        seed=seed,
    ).by_users
    everybody = Table.of(_array(users.user[users.has_user]))
    histories = _rows(_histories(now, _numbered(users.has_user)), _array(fresh))
    item, has_item = users.item.clone(), users.has_item.clone()
    found = FoldIn("regression", everybody, arrays=rule.arrays)(*histories)
    item[fresh] = _tensor(found, item)
    has_item[fresh] = _tensor(np.diff(histories[0]) > 0, item)
    return Tables(users.user, item, users.has_user, has_item)


def _last_users(rule: FoldIn, tables: Tables, now: Any) -> Tables:
    """Vectors of users who have new items alone."""
    fresh = ~tables.has_user & (now.by_user().degree > 0)
    if not bool(fresh.any()):
        return tables
    everything = Table.of(_array(tables.item[tables.has_item]))
    again = FoldIn(rule.kind, everything, settings=rule.settings, arrays=rule.arrays)
    histories = _rows(_histories(now.by_user(), _numbered(tables.has_item)), _array(fresh))
    user, has_user = tables.user.clone(), tables.has_user.clone()
    user[fresh] = _tensor(again(*histories), user)
    has_user[fresh] = _tensor(np.diff(histories[0]) > 0, user)
    return Tables(user, tables.item, has_user, tables.has_item)


def _array(x: Tensor) -> Array:
    found: Array = x.cpu().numpy()
    return found


def _tensor(x: Array, like: Tensor) -> Tensor:
    return torch.as_tensor(x, device=like.device)


def _numbered(kept: Tensor) -> Array:
    """The new number of each node that is kept, -1 for others."""
    number: Array = np.where(_array(kept), np.cumsum(_array(kept)) - 1, -1)
    return number


def _histories(neighbors: Neighbors, number: Array) -> tuple[Array, Array]:
    """A pattern with the columns that have a number."""
    col, row = number[_array(neighbors.col)], _array(neighbors.row)
    size = np.bincount(row[col >= 0], minlength=len(neighbors.ptr) - 1)
    return np.concatenate([[0], np.cumsum(size)]), col[col >= 0]


def _rows(histories: tuple[Array, Array], kept: Array) -> tuple[Array, Array]:
    """Some rows of a pattern, bool ``[n]``."""
    ptr, col = histories
    size = np.diff(ptr)
    return np.concatenate([[0], np.cumsum(size[kept])]), col[np.repeat(kept, size)]
