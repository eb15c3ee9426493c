"""Vectors of items that came after training, from their first users or their features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.fold_in.histories import Histories, histories_of
from pyg_kd.retrieval.fold_in.regression import BOUNDS, apply_maps, cut, fit_linear, fit_maps
from pyg_kd.retrieval.fold_in.users import FoldIn
from pyg_kd.retrieval.tables import Float32, Table

Array = npt.NDArray[Any]

#: Penalties that are tried of the regression on features, relative to their mean square.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)

#: One in so many items is held out to see how well the others foretell it.
HELD_SHARE = 5


class ItemFoldIn:
    r"""Vectors of new items, comparable to those of the table: append them to it.

    They are what training would have given, as far as the little that is known tells. Of an item
    with few users that is often a short vector, which is seldom listed: on CiteULike as seldom as
    after training again (implicit ALS). Whoever wants new items to be seen lengthens it.

    Made by :func:`fit_item_fold_in`.

    Args:
        by_users: Folds in an item over the users' table, from its first users.
        by_features: Mean, scale ``[F]``, map ``[d, F]`` and constant ``[d]`` of the regression on
            features, or ``None``.
        report: The :math:`R^2` of held-out items: ``"by users"``, by their number, and
            ``"by features"``.
    """

    def __init__(
        self, by_users: FoldIn, by_features: tuple[Array, ...] | None, report: dict[str, Any]
    ) -> None:
        self.by_users, self.by_features, self.report = by_users, by_features, report

    def __call__(
        self, ptr: npt.ArrayLike, col: npt.ArrayLike, features: npt.ArrayLike | None = None
    ) -> Float32:
        r"""The vectors of new items: from their users where they have any, else from features.

        Args:
            ptr: Where each item's users begin, integers ``[n + 1]``.
            col: Rows of users, integers ``[nnz]``.
            features: Features of the items, ``[n, F]``.

        Returns:
            float32 ``[n, d]``.

        Raises:
            TypeError: If ``ptr`` or ``col`` are not integers.
            ValueError: If a user is out of range, features have another width or are not finite,
                or nothing is known of an item: it has no users, and there are no features.
        """
        histories = histories_of(ptr, col, len(self.by_users.x_item))
        vectors = self.by_users(histories.ptr, histories.col)
        bare = np.flatnonzero(histories.degree == 0)
        if not len(bare):
            return vectors
        if features is None or self.by_features is None:
            why = "no features were given" if features is None else "none were given to the fit"
            raise ValueError(f"nothing is known of item {bare[0]}: it has no users, and {why}")
        mean, scale, found, constant = self.by_features
        x = _features(features, len(vectors), len(mean))[bare]
        vectors[bare] = ((x - mean) / scale) @ found.T + constant
        return vectors

    def __repr__(self) -> str:
        width = 0 if self.by_features is None else len(self.by_features[0])
        return f"ItemFoldIn({self.by_users.x_item!r}, {width} features)"


def fit_item_fold_in(
    x_user: Table | npt.ArrayLike,
    x_item: Table | npt.ArrayLike,
    ptr: npt.ArrayLike,
    col: npt.ArrayLike,
    *,
    features: npt.ArrayLike | None = None,
    seed: int = 0,
) -> ItemFoldIn:
    r"""Learn from known items what vectors new ones would have.

    By ridge regression: on sums over an item's users, with a map for each group of lengths as for
    users (:class:`FoldIn`), and on its features. Scores of different items are compared with each
    other, so that nothing but the vector itself is a target.

    Args:
        x_user: The user table ``[U, d]``.
        x_item: The item table ``[I, d]``.
        ptr: Where the users of each item begin, integers ``[I + 1]``.
        col: Users that the table was trained on, integers ``[nnz]``.
        features: Features of the items, ``[I, F]``.
        seed: Of the items that are held out and of the users that are left to an item.

    Raises:
        TypeError: If ``ptr`` and ``col`` are not integers.
        ValueError: If sizes don't fit, values are out of range or not finite, or no item has
            users.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x_user, x_item = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
        >>> users = (x_item @ x_user.T).argsort(1)[:, -5:]
        >>> fold_in = fit_item_fold_in(x_user, x_item, np.arange(0, 151, 5), users.ravel())
        >>> fold_in([0, 2], [4, 7]).shape
        (1, 3)
        >>> fold_in([0, 0], [])
        Traceback (most recent call last):
        ValueError: nothing is known of item 0: it has no users, and no features were given
    """
    users = x_user if isinstance(x_user, Table) else Table.of(x_user, name="x_user")
    items = x_item if isinstance(x_item, Table) else Table.of(x_item, name="x_item")
    if users.dim != items.dim:
        raise ValueError(
            f"'x_user' and 'x_item' must have the same width (got {users.dim} and {items.dim})"
        )
    histories = histories_of(ptr, col, len(users))
    if len(histories.ptr) != len(items) + 1 or not histories.degree.any():
        raise ValueError(
            f"'ptr' must be of {len(items)} items, some with users "
            f"(got {len(histories.ptr) - 1} with {len(histories.col)} users)"
        )
    rng, wanted = np.random.default_rng(seed), items.block(0, len(items))
    order = rng.permutation(np.flatnonzero(histories.degree))
    held, others = np.split(order, [len(order) // HELD_SHARE])
    judged = fit_maps(users, Table.of(wanted[others]), histories.of(others), rng)
    report: dict[str, Any] = {
        "by users": _by_length(users, judged, wanted[held], histories.of(held), rng)
    }
    by_features = None
    if features is not None:
        x = _features(features, len(items), None)
        by_features, report["by features"] = _fit_features(x, wanted, held, others)
    maps = fit_maps(users, items, histories, rng)
    return ItemFoldIn(FoldIn("regression", users, arrays=maps._asdict()), by_features, report)


def _by_length(
    users: Table, maps: Any, wanted: Array, histories: Histories, rng: np.random.Generator
) -> dict[str, float | None]:
    """The R^2 of items of which only some users are known."""
    found = {}
    for length in BOUNDS[:-1]:
        enough = np.flatnonzero(histories.degree >= length)
        part = cut(histories.of(enough), np.full(len(enough), length), rng)[0]
        found[str(length)] = r_squared(wanted[enough], apply_maps(users, part, maps))
    return found


def _fit_features(
    x: Array, wanted: Array, held: Array, others: Array
) -> tuple[tuple[Array, ...], float | None]:
    """The regression with the penalty that is best for held-out items, and its R^2 there."""
    mean, spread = x[others].mean(0), x[others].std(0)
    scale = np.where(spread > 0, spread, 1)
    z = (x - mean) / scale
    judged: dict[float, float | None] = {}
    for penalty in PENALTIES:
        found, constant = fit_linear(z[others], wanted[others], penalty)
        judged[penalty] = r_squared(wanted[held], z[held] @ found.T + constant)
    best = _best(judged.items())
    every = np.concatenate([held, others])
    return (mean, scale, *fit_linear(z[every], wanted[every], best)), judged[best]


def _best(judged: Iterable[tuple[float, float | None]]) -> float:
    return max(judged, key=lambda entry: -np.inf if entry[1] is None else entry[1])[0]


def r_squared(wanted: Array, found: Array) -> float | None:
    """The share of the variance that is explained; ``None`` where there is no variance."""
    total = float(((wanted - wanted.mean(0)) ** 2).sum()) if len(wanted) > 1 else 0.0
    return None if total == 0 else 1 - float(((wanted - found) ** 2).sum()) / total


def _features(features: npt.ArrayLike, size: int, width: int | None) -> Array:
    x = np.asarray(features)
    if x.ndim != 2 or len(x) != size or width not in (None, x.shape[1]):
        shape = f"[{size}, {'F' if width is None else width}]"
        raise ValueError(f"'features' must be {shape} (got {list(x.shape)})")
    if x.dtype.kind not in "fiub" or not np.isfinite(x).all():
        raise ValueError(f"'features' must be finite numbers (got {x.dtype})")
    return x.astype(np.float64)
