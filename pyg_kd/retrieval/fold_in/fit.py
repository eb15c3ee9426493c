"""Choosing how users are folded in, on known users whose items are partly hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_count
from pyg_kd.retrieval.fold_in.histories import Histories, histories_of
from pyg_kd.retrieval.fold_in.regression import BOUNDS, Maps, fit_maps
from pyg_kd.retrieval.fold_in.ridge import gram, penalised_root
from pyg_kd.retrieval.fold_in.trial import make_trial
from pyg_kd.retrieval.fold_in.tried import Tried
from pyg_kd.retrieval.fold_in.users import FoldIn
from pyg_kd.retrieval.tables import Table

Array = npt.NDArray[Any]

#: What is tried of ridge regression: the penalty, and what an interaction adds to its weight.
RIDGE = tuple(product((0.03, 0.3, 3.0, 30.0), (0.0, 3.0, 30.0)))

#: Powers of popularity by which items are divided, where unseen items say whether that is good: an
#: item with few users remembers them best, and of those it has seen every power finds more.
POWERS = (0.25, 0.5)

#: How much of the mean user is added to a map's vector.
OFFSETS = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0)

#: Users whose vectors are measured.
SCALED_USERS = 10_000

#: What the users of the next longer or shorter group count for in the choice for a group.
NEARNESS = 0.6

#: A group of lengths with fewer users has the offset that is best for all.
LEAST_GROUP = 30


def fit_fold_in(
    x_item: Table | npt.ArrayLike,
    ptr: npt.ArrayLike,
    col: npt.ArrayLike,
    *,
    x_user: Table | npt.ArrayLike | None = None,
    encoder: Mapping[str, Array] | None = None,
    source: npt.ArrayLike | None = None,
    val: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    holdout_users: int = 2000,
    seed: int = 0,
) -> FoldIn:
    r"""Choose a :class:`FoldIn` by the Recall@20 of known users, some of whose items are hidden.

    Tried are ridge regression and propagation, with ``x_user`` also maps, with ``encoder`` that
    too. Each user is shown a random part of its items, of one item up to all but one, and the
    rest is to be found in the whole catalogue.

    The item table was trained on the items that are hidden here and remembers them, so the values
    in the report are far too high. They are for choosing, among candidates that this favours about
    equally (:func:`~pyg_kd.retrieval.fold_in.trial.make_trial` says how). With ``val``, items that
    the table has not seen are to be found instead.

    Args:
        x_item: The item table ``[I, d]``.
        ptr: Where the items of each of ``U`` users begin in ``col``, integers ``[U + 1]``.
        col: The items that the table was trained on, integers ``[nnz]``.
        x_user: The vectors of these users, ``[U, d]``.
        encoder: What :func:`encoder_of` returned.
        source: What :func:`propagation_source` returned, ``[I, d]``.
        val: Validation items of these users, ``(ptr, col)``.
        holdout_users: Users whose items are hidden, at most; fewer if the catalogue is large.
        seed: Of the users, of what is hidden and of what the maps are fitted to.

    Returns:
        The best one. Its ``report`` has the mean Recall@20 of every candidate.

    Raises:
        TypeError: If arrays are not of numbers, or ``ptr`` and ``col`` not of integers.
        ValueError: If sizes don't fit, or values are out of range or not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x_user, x_item = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
        >>> col = (x_user @ x_item.T).argsort(1)[:, -5:].ravel()
        >>> fold_in = fit_fold_in(x_item, np.arange(0, 201, 5), col, x_user=x_user)
        >>> fold_in([0, 3], [4, 7, 1]).shape, fold_in.kind in fold_in.report["chosen"]
        ((1, 3), True)
    """
    require_count(holdout_users=holdout_users)
    table = x_item if isinstance(x_item, Table) else Table.of(x_item, name="x_item")
    histories = histories_of(ptr, col, len(table))
    vectors = None if x_user is None else _vectors(x_user, len(histories.ptr) - 1, table.dim)
    targets = None if val is None else _targets(val, histories, len(table))
    rng = np.random.default_rng(seed)
    if targets is None:
        holdout_users = min(holdout_users, len(histories.ptr) // 2)  # maps need the others
    trial = make_trial(histories, targets, table, holdout_users, rng)
    if trial is None:
        return FoldIn.default(table)
    tried = Tried(table, trial)
    popularity = np.bincount(histories.col, minlength=len(table)) + 1.0
    powers = () if targets is None else POWERS
    _try_ridge(tried, popularity, powers)
    _try_propagation(tried, popularity, powers, source)
    if encoder is not None:
        tried.add("encoder", FoldIn("encoder", table, arrays=encoder))
    if vectors is not None:
        others = histories if targets is not None else _without(histories, trial.users)
        _try_maps(tried, fit_maps(table, vectors, others, rng))
    best = tried.best()
    best.report = tried.report(popularity, "training items" if val is None else "validation items")
    return best if vectors is None else _scaled(best, vectors, histories)


def _try_ridge(tried: Tried, popularity: Array, powers: Sequence[float]) -> None:
    total = gram(tried.table)
    for penalty, alpha in RIDGE:
        arrays = {"root": penalised_root(total, penalty)}
        settings = {"regularization": penalty, "alpha": alpha}
        name = f"ridge, regularization {penalty:g}, alpha {alpha:g}"
        tried.add(name, FoldIn("ridge", tried.table, settings=settings, arrays=arrays))
    name = tried.best_name("ridge")
    best = tried.rules[name]
    for power in powers:
        arrays = {**best.arrays, "item_weight": _divisors(popularity, power)}
        rule = FoldIn("ridge", tried.table, settings=best.settings, arrays=arrays)
        tried.add(f"{name}, popularity^-{power:g}", rule)


def _try_propagation(
    tried: Tried, popularity: Array, powers: Sequence[float], source: npt.ArrayLike | None
) -> None:
    tried.add("propagation", FoldIn("propagation", tried.table))
    for power in powers:
        arrays = {"item_weight": _divisors(popularity, power)}
        rule = FoldIn("propagation", tried.table, arrays=arrays)
        tried.add(f"propagation, popularity^-{power:g}", rule)
    if source is not None:
        arrays = {"source": Table.of(source, name="source").values}
        tried.add("propagation of layers", FoldIn("propagation", tried.table, arrays=arrays))


def _divisors(popularity: Array, power: float) -> Array:
    weight = popularity**-power
    scaled: Array = (weight / weight.max()).astype(np.float32)
    return scaled


def _try_maps(tried: Tried, maps: Maps) -> None:
    """Choose how much of the mean user is added to what maps find."""

    def add(name: str, share: Array) -> Array:
        offsets = maps.offsets * share.astype(np.float32)
        arrays = maps._replace(offsets=offsets)._asdict()
        return tried.add(
            f"regression, offset {name}", FoldIn("regression", tried.table, arrays=arrays)
        )

    recall = [add(f"{share:g}", np.array(share)) for share in OFFSETS]
    best = _best_by_group(np.stack(recall), tried.trial.group)
    add("by length", np.array(OFFSETS)[best, None])


def _without(histories: Histories, users: Array) -> Histories:
    """The histories with nothing left of some users."""
    gone = np.zeros(len(histories.ptr) - 1, bool)
    gone[users] = True
    return histories.only(~np.repeat(gone, histories.degree))


def _best_by_group(recall: Array, group: Array) -> Array:
    """The best candidate of each group of lengths, judged with its neighbours, int64 ``[g]``."""
    member = np.eye(len(BOUNDS))[group]
    place = np.arange(len(BOUNDS))
    near = NEARNESS ** np.abs(place[:, None] - place)
    best = np.argmax(recall @ member @ near, axis=0)
    few = member.sum(0) @ near < LEAST_GROUP
    found: Array = np.where(few, recall.mean(1).argmax(), best)
    return found


def _scaled(rule: FoldIn, x_user: Table, histories: Histories) -> FoldIn:
    """The rule with vectors as long as those of known users, so that scores compare."""
    if "scale" not in rule.settings:
        return rule
    some = np.flatnonzero(histories.degree)[:SCALED_USERS]
    part = histories.of(some)
    found, wanted = (
        float(np.linalg.norm(x, axis=1).mean()) for x in (rule(*part[:2]), x_user.rows(some))
    )
    if found == 0 or wanted == 0:
        return rule
    settings = {**rule.settings, "scale": wanted / found}
    return FoldIn(rule.kind, rule.x_item, settings=settings, arrays=rule.arrays, report=rule.report)


def _vectors(x_user: Table | npt.ArrayLike, num_users: int, dim: int) -> Table:
    table = x_user if isinstance(x_user, Table) else Table.of(x_user, name="x_user")
    if (len(table), table.dim) != (num_users, dim):
        raise ValueError(f"'x_user' must be [{num_users}, {dim}] (got [{len(table)}, {table.dim}])")
    return table


def _targets(
    val: tuple[npt.ArrayLike, npt.ArrayLike], histories: Histories, num_items: int
) -> Histories:
    targets = histories_of(*val, num_items)
    if len(targets.ptr) != len(histories.ptr):
        raise ValueError(
            f"'val' must be of {len(histories.ptr) - 1} users (got {len(targets.ptr) - 1})"
        )
    return targets
