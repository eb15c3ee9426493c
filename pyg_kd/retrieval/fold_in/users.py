"""Vectors of users from their items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_at_least, require_choice
from pyg_kd.retrieval.fold_in.encoder import ENCODER, check_encoder, encode
from pyg_kd.retrieval.fold_in.histories import Histories, histories_of, weighted_sums
from pyg_kd.retrieval.fold_in.regression import Maps, apply_maps
from pyg_kd.retrieval.fold_in.ridge import gram, penalised_root, solve_histories
from pyg_kd.retrieval.seen import Pattern, pattern_of
from pyg_kd.retrieval.tables import Float32, Table

Array = npt.NDArray[Any]

Kind = Literal["ridge", "propagation", "regression", "encoder"]
KINDS: tuple[str, ...] = get_args(Kind)

#: Settings of each kind, and what they are where nothing was fitted.
SETTINGS: dict[str, dict[str, float]] = {
    "ridge": {"regularization": 3.0, "alpha": 3.0, "scale": 1.0},
    "propagation": {"degree_power": 0.5, "scale": 1.0},
    "regression": {},
    "encoder": {},
}

#: Arrays that each kind may have, and those that it must have.
ARRAYS: dict[str, tuple[str, ...]] = {
    "ridge": ("root", "item_weight"),
    "propagation": ("source", "item_weight"),
    "regression": Maps._fields,
    "encoder": ENCODER,
}
REQUIRED = ("regression", "encoder")


class FoldIn:
    r"""Vectors of users of whom only their items are known, to be ranked by inner products.

    With :math:`y_i` the rows of the item table, :math:`H` a history and :math:`w_i` the
    strengths of its interactions times ``item_weight``:

    * ``"ridge"``, a step of `implicit ALS <https://doi.org/10.1109/ICDM.2008.22>`_: the minimum of

      .. math::
          \sum_{i \in H} w_i \left( (1 + \alpha) (1 - \langle u, y_i \rangle)^2
          - \langle u, y_i \rangle^2 \right) + \sum_{i} \langle u, y_i \rangle^2
          + \lambda \|u\|^2, \qquad \lambda = \rho \, \mathrm{tr}(Y^\top Y) / d

      with ``alpha`` and ``regularization`` :math:`\rho`. With :math:`w_i = 1` that is the
      objective of implicit ALS: an item of the history has weight :math:`1 + \alpha` and is to
      score 1, any other has weight 1 and is to score 0.
    * ``"propagation"``: :math:`u = |H|^{-p} \sum_{i \in H} w_i s_i`, a layer of light graph
      convolution, with ``degree_power`` :math:`p`, and :math:`s_i` rows of ``source`` or else of
      the item table.
    * ``"regression"``: :math:`u = |H|^{-1/2} W \sum_{i \in H} w_i y_i + o`, the best linear
      guess of what training would have made of a history of this length. The items of a short
      one say little, and the mean user in :math:`o` counts for more.
    * ``"encoder"``: the network of :class:`~pyg_kd.models.MultVAE`.

    Args:
        kind: One of those.
        x_item: The item table, floating point ``[I, d]``.
        settings: Numbers by name; those that are missing have usual values.
        arrays: ``item_weight`` ``[I]`` for the first two; ``root``
            :math:`(Y^\top Y + \lambda I)^{-1/2}` ``[d, d]`` for the first, which is computed
            without; ``source`` ``[I, d]`` for the second; ``bounds`` ``[g]``, ``maps``
            ``[g, d, d]`` and ``offsets`` ``[g, d]`` by the shortest history of a group for the
            third; what :func:`encoder_of` returned for the last.
        report: What is known of the choice, kept as it is.

    Raises:
        TypeError: If the table is not floating point.
        ValueError: If a setting or an array is unknown, or not what it must be.

    Example:
        >>> fold_in = FoldIn("propagation", np.eye(4))
        >>> fold_in([0, 1, 5, 5], [2, 0, 1, 2, 3]).tolist()
        [[0.0, 0.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        kind: str,
        x_item: Table | npt.ArrayLike,
        *,
        settings: Mapping[str, float] | None = None,
        arrays: Mapping[str, Array] | None = None,
        report: Any = None,
    ) -> None:
        require_choice(KINDS, kind=kind)
        self.kind, self.report = kind, report
        self.x_item = x_item if isinstance(x_item, Table) else Table.of(x_item, name="x_item")
        self.settings = _settings(kind, settings or {})
        self.arrays: dict[str, Array] = dict(arrays or {})
        self._check_arrays()
        self._root: Array | None = self.arrays.get("root")
        source = self.arrays.get("item_input" if kind == "encoder" else "source")
        self._source = self.x_item if source is None else Table.of(source)

    @staticmethod
    def default(x_item: Table | npt.ArrayLike) -> FoldIn:
        """Ridge regression with settings that suit most tables."""
        return FoldIn("ridge", x_item)

    def __call__(
        self, ptr: npt.ArrayLike, col: npt.ArrayLike, weights: npt.ArrayLike | None = None
    ) -> Float32:
        r"""The vectors of users.

        Args:
            ptr: Where each user's items begin, integers ``[n + 1]``.
            col: Rows of items, integers ``[nnz]``; what a user has twice counts once.
            weights: Strengths of the interactions, ``[nnz]``, ones by default.

        Returns:
            float32 ``[n, d]``; zeros for a user without items.

        Raises:
            TypeError: If ``ptr`` or ``col`` are not integers, or weights no numbers.
            ValueError: If ``ptr`` does not ascend from 0, an item is out of range, or a weight is
                negative or not finite.
        """
        histories = histories_of(ptr, col, len(self.x_item), weights)
        if "item_weight" in self.arrays:
            histories = _weighted(histories, self.arrays["item_weight"])
        vectors = self._vectors(histories)
        vectors[histories.degree == 0] = 0
        return vectors

    def updated(self, vector: Array, before: npt.ArrayLike, after: npt.ArrayLike) -> Float32:
        r"""The vector of a known user who has interacted since training.

        .. math::
            u' = f(H') + \frac{|H|}{|H'|} \left( u - f(H) \right)

        What training made of a user, :math:`u`, says more than its items then, :math:`H`, do; of
        all items :math:`H'` it has seen so many. Where 5 were known to training and 5 more came
        (CiteULike, soft labels), Recall@20 was .147 by :math:`u`, .151 by :math:`f(H')` and .155
        by :math:`u'`.

        Args:
            vector: The trained vector, ``[d]``.
            before: The items that the user had in training, integers ``[m]``.
            after: All items, integers ``[n]``, those before included.

        Returns:
            float32 ``[d]``; the trained vector if nothing is new.

        Raises:
            TypeError: If items are not integers.
            ValueError: If an item is out of range.
        """
        old, new = (pattern_of([_items(items)]) for items in (before, after))
        moved: Float32 = self.all_updated(vector[None], old, new)[0]
        return moved

    def all_updated(self, vectors: Array, before: Pattern, after: Pattern) -> Float32:
        r"""As :meth:`updated` for several users, float32 ``[n, d]``.

        Args:
            vectors: Their trained vectors, ``[n, d]``; anything finite for a new user.
            before: The items that each had in training, ``n`` rows; none for a new user.
            after: All items of each.
        """
        count = len(before.ptr) - 1
        pattern = histories_of(
            np.concatenate([before.ptr, before.ptr[-1] + after.ptr[1:]]),
            np.concatenate([before.col, after.col]),
            len(self.x_item),
        )
        found = self(pattern.ptr, pattern.col)
        old, new = found[:count], found[count:]
        few, many = pattern.degree[:count], pattern.degree[count:]
        share = (few / np.maximum(many, 1)).astype(np.float32)[:, None]
        moved: Float32 = new + share * (vectors.astype(np.float32) - old)
        return moved

    def _vectors(self, histories: Histories) -> Float32:
        if self.kind == "encoder":
            return encode(self._source, self.arrays, histories)
        if self.kind == "regression":
            return apply_maps(self.x_item, histories, Maps(**self.arrays))
        scale = self.settings["scale"]
        if self.kind == "ridge":
            if self._root is None:  # made by the first to ask
                self._root = penalised_root(gram(self.x_item), self.settings["regularization"])
            found = solve_histories(self.x_item, histories, self._root, self.settings["alpha"])
            return (scale * found).astype(np.float32)
        factor = scale * np.maximum(histories.degree, 1.0) ** -self.settings["degree_power"]
        return weighted_sums(self._source, histories) * factor.astype(np.float32)[:, None]

    def _check_arrays(self) -> None:
        known, given = ARRAYS[self.kind], self.arrays
        if not given.keys() <= set(known) or (self.kind in REQUIRED and len(given) < len(known)):
            some = "" if self.kind in REQUIRED else "out of "
            raise ValueError(f"'arrays' of {self.kind!r} must be {some}{known} (got {[*given]})")
        if self.kind == "encoder":
            check_encoder(given, len(self.x_item), self.x_item.dim)
        size, dim = len(self.x_item), self.x_item.dim
        groups = given["bounds"].size if self.kind == "regression" else 0
        shapes = {
            "root": (dim, dim), "item_weight": (size,), "source": (size, dim),
            "bounds": (groups,), "maps": (groups, dim, dim), "offsets": (groups, dim),
        }  # fmt: skip
        for name, array in given.items():
            if array.shape != shapes.get(name, array.shape):
                raise ValueError(f"{name!r} must be {list(shapes[name])} (got {list(array.shape)})")
            if array.dtype.kind != ("i" if name == "bounds" else "f"):
                raise TypeError(f"{name!r} has the wrong dtype (got {array.dtype})")
            if not np.isfinite(array).all():
                raise ValueError(f"{name!r} must be finite")
        if "item_weight" in given and (given["item_weight"] < 0).any():
            raise ValueError(
                f"'item_weight' must not be negative (got {given['item_weight'].min()})"
            )
        if groups and (given["bounds"][0] != 1 or (np.diff(given["bounds"]) <= 0).any()):
            raise ValueError(f"'bounds' must ascend from 1 (got {given['bounds'].tolist()})")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value:g}" for name, value in self.settings.items())
        return f"FoldIn({self.kind!r}, [{len(self.x_item)}, {self.x_item.dim}], {settings})"


def _items(items: npt.ArrayLike) -> Array:
    found = np.asarray(items)
    return found if found.size else found.astype(np.int64)


def _weighted(histories: Histories, item_weight: Array) -> Histories:
    """Strengths times the weights of the items."""
    weight = item_weight[histories.col].astype(np.float32)
    given = histories.weight
    return histories._replace(weight=weight if given is None else weight * given)


def _settings(kind: str, given: Mapping[str, float]) -> dict[str, float]:
    unknown = given.keys() - SETTINGS[kind].keys()
    if unknown:
        raise ValueError(
            f"'settings' of {kind!r} must be out of {[*SETTINGS[kind]]} (got {[*unknown]})"
        )
    require_at_least(0, **given)
    return {name: float(value) for name, value in {**SETTINGS[kind], **given}.items()}
