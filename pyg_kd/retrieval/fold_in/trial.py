"""Known users whose items are partly hidden, to see how well a rule finds them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.fold_in.histories import Histories
from pyg_kd.retrieval.fold_in.regression import BOUNDS, cut, group_of
from pyg_kd.retrieval.search import top_k
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import Float32, Table

Array = npt.NDArray[Any]

#: Length of the lists that are judged.
K = 20

#: Multiplications that one evaluation may take: users x items x width.
MOST_PRODUCTS = 4e9

#: Users at least, however large the catalogue.
LEAST_USERS = 200


class Trial(NamedTuple):
    """What is known of some users, and what is to be found.

    Args:
        users: Who they are, int64 ``[n]``.
        known: The items that are shown.
        hidden: The items that are to be found, at least one each.
        group: The group of each user by the number of known items, int64 ``[n]``.
    """

    users: Array
    known: Histories
    hidden: Histories
    group: Array

    def recall(self, table: Table, queries: Float32) -> Array:
        """Recall@20 of every user over the whole catalogue, float64 ``[n]``."""
        rows, _ = top_k(queries, table, K, hidden=Pattern(self.known.ptr, self.known.col))
        size = len(table)
        wanted = self.hidden.row * size + self.hidden.col  # ascending
        listed = np.where(rows < 0, -1, np.arange(len(rows))[:, None] * size + rows)
        place = np.searchsorted(wanted, listed).clip(max=len(wanted) - 1)
        hits = (wanted[place] == listed).sum(1)
        found: Array = hits / self.hidden.degree
        return found


def make_trial(
    histories: Histories,
    targets: Histories | None,
    table: Table,
    num_users: int,
    rng: np.random.Generator,
) -> Trial | None:
    r"""Draw users, and how many of their items are known.

    A table remembers the items that it was trained on: where 13 % of unseen items were found, 40 %
    of those hidden after training were (CiteULike), most by the settings that fit closest. Of an
    item with many users each is remembered less, so that only those items that make up the
    more popular half of the interactions are to be found: what was best for them was within 2 %
    of the best for new users of three students (CiteULike).

    The lengths are drawn from the groups of ``BOUNDS``, each as likely as the others as far as a
    user's history reaches.

    Args:
        histories: Items of all users.
        targets: What is to be found; by default the popular items of their histories that are
            not known.
        table: The catalogue.
        num_users: Users at most; fewer where the catalogue is large.
        rng: Draws.

    Returns:
        The trial, or ``None`` if no user has items to hide.
    """
    spare, num_items = 1 if targets is None else 0, len(table)
    fits = histories.degree > spare
    if targets is not None:
        fits &= targets.degree > 0
    most = max(int(MOST_PRODUCTS / (num_items * table.dim + 1)), LEAST_USERS)
    users = rng.permutation(np.flatnonzero(fits))[: min(num_users, most)]
    if not len(users):
        return None
    own = histories.of(users)
    known, rest = cut(own, _lengths(own.degree - spare, rng), rng)
    if targets is None:
        hidden = rest.only(popular_items(histories.col, num_items)[rest.col])
    else:
        hidden = _without(targets.of(users), known, num_items)
    some = np.flatnonzero(hidden.degree)
    if not len(some):
        return None
    known, hidden, users = known.of(some), hidden.of(some), users[some]
    return Trial(users, known, hidden, group_of(known.degree, np.array(BOUNDS)))


def popular_items(col: Array, num_items: int) -> Array:
    """The most popular items that have half of the interactions together, bool ``[I]``."""
    popularity = np.bincount(col, minlength=num_items)
    order = np.argsort(-popularity, kind="stable")
    last = order[np.searchsorted(np.cumsum(popularity[order]), len(col) / 2)]
    popular: Array = popularity >= popularity[last]
    return popular


def _lengths(most: Array, rng: np.random.Generator) -> Array:
    """How many items are known, from 1 to ``most``."""
    bounds = np.array(BOUNDS)
    group = rng.integers(0, group_of(most, bounds), endpoint=True)
    high = np.minimum(np.append(bounds[1:] - 1, np.iinfo(np.int64).max)[group], most)
    lengths: Array = rng.integers(bounds[group], high, endpoint=True)
    return lengths


def _without(targets: Histories, known: Histories, num_items: int) -> Histories:
    """The targets that are not known already."""
    keys = targets.row * num_items + targets.col
    return targets.only(~np.isin(keys, known.row * num_items + known.col))
