"""Vectors of users from their items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_at_least, require_choice, require_positive
from pyg_kd.retrieval.fold_in.encoder import check_encoder, encode
from pyg_kd.retrieval.fold_in.histories import Histories, histories_of, weighted_sums
from pyg_kd.retrieval.fold_in.ridge import gram, inverse_root, solve_histories
from pyg_kd.retrieval.tables import Float32, Table

Array = npt.NDArray[Any]

Kind = Literal["ridge", "propagation", "encoder"]
KINDS: tuple[str, ...] = get_args(Kind)

#: Settings of each kind, and what they are where nothing was fitted.
SETTINGS: dict[str, dict[str, float]] = {
    "ridge": {
        "regularization": 1.0,
        "unseen_weight": 0.1,
        "alpha": 1.0,
        "target": 2.0,
        "scale": 1.0,
    },
    "propagation": {"degree_power": 0.5, "scale": 1.0},
    "encoder": {},
}

#: Arrays that each kind may have; those of an encoder it must have.
ARRAYS: dict[str, tuple[str, ...]] = {
    "ridge": ("root", "center", "item_weight"),
    "propagation": ("source", "item_weight"),
}


class FoldIn:
    r"""Vectors of users of whom only their items are known, to be ranked by inner products.

    With :math:`y_i` the rows of the item table, :math:`H` a history and :math:`w_i` the
    strengths of its interactions times ``item_weight``:

    * ``"ridge"`` minimises, as a step of `implicit ALS
      <https://doi.org/10.1109/ICDM.2008.22>`_ does,

      .. math::
          \alpha \sum_{i \in H} w_i \left(t' - \langle u, y_i \rangle\right)^2
          + w_0 \sum_{i} \langle u, y_i \rangle^2 + \lambda \|u\|^2, \qquad
          \lambda = \rho \, \mathrm{tr}(w_0 Y^\top Y) / d

      with :math:`\alpha t'` the setting ``target``, :math:`w_0` ``unseen_weight`` and
      :math:`\rho` ``regularization``. Fitted ones know ``root``, :math:`R`, and ``center``,
      :math:`c`, which replace the last two terms by :math:`\|v\|^2`, where :math:`u = c + R v`:
      users are expected near others.
    * ``"propagation"``: :math:`u = |H|^{-p} \sum_{i \in H} w_i s_i`, a layer of light graph
      convolution, with ``degree_power`` :math:`p`, and :math:`s_i` rows of ``source`` or else of
      the item table.
    * ``"encoder"``: the network of :class:`~pyg_kd.models.MultVAE`.

    Args:
        kind: One of those.
        x_item: The item table, floating point ``[I, d]``.
        settings: Numbers by name; those that are missing have usual values.
        arrays: ``root`` ``[d, r]`` and ``center`` ``[d]`` together, ``item_weight`` ``[I]``,
            ``source`` ``[I, d]``, or what :func:`encoder_of` returned.
        report: What is known of the choice, kept as it is.

    Raises:
        TypeError: If the table is not floating point.
        ValueError: If a setting or an array is unknown, or not what it must be.

    Example:
        >>> fold_in = FoldIn("propagation", np.eye(3))
        >>> fold_in([0, 1, 3, 3], [2, 0, 1]).round(2).tolist()
        [[0.0, 0.0, 1.0], [0.71, 0.71, 0.0], [0.0, 0.0, 0.0]]
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
        self._source = Table.of(self.arrays["source"]) if "source" in self.arrays else self.x_item

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
        if self.kind == "encoder":
            vectors = encode(self.arrays, histories)
        elif self.kind == "ridge":
            vectors = self._ridge(self._weighted(histories))
        else:
            vectors = self._propagate(self._weighted(histories))
        vectors[histories.degree == 0] = 0
        return vectors

    def _ridge(self, histories: Histories) -> Float32:
        if self._root is None:
            self._root = self._plain_root()
        center = self.arrays.get("center", np.zeros(self.x_item.dim))
        alpha, target = self.settings["alpha"], self.settings["target"]
        found = solve_histories(self.x_item, histories, self._root, center, alpha, target)
        return (found * self.settings["scale"]).astype(np.float32)

    def _plain_root(self) -> Array:
        """The root that stands for the unseen items and the penalty."""
        total = self.settings["unseen_weight"] * gram(self.x_item)
        penalty = self.settings["regularization"] * np.trace(total) / len(total)
        return inverse_root(total + penalty * np.eye(len(total)))

    def _propagate(self, histories: Histories) -> Float32:
        factor = (
            self.settings["scale"]
            * np.maximum(histories.degree, 1.0) ** -self.settings["degree_power"]
        )
        sums = weighted_sums(self._source, histories)
        return sums * factor.astype(np.float32)[:, None]

    def _weighted(self, histories: Histories) -> Histories:
        """Strengths times the weights of the items."""
        if "item_weight" not in self.arrays:
            return histories
        weight = self.arrays["item_weight"][histories.col].astype(np.float32)
        given = histories.weight
        return histories._replace(weight=weight if given is None else weight * given)

    def _check_arrays(self) -> None:
        size, dim = len(self.x_item), self.x_item.dim
        if self.kind == "encoder":
            check_encoder(self.arrays, size, dim)
            return
        unknown = self.arrays.keys() - set(ARRAYS[self.kind])
        if unknown or ("root" in self.arrays) != ("center" in self.arrays):
            raise ValueError(
                f"'arrays' of {self.kind!r} are out of {ARRAYS[self.kind]}, 'root' and 'center' "
                f"together (got {[*self.arrays]})"
            )
        rank = self.arrays["root"].shape[-1] if "root" in self.arrays else 0
        shapes = {
            "root": (dim, rank),
            "center": (dim,),
            "item_weight": (size,),
            "source": (size, dim),
        }
        for name, array in self.arrays.items():
            if array.shape != shapes[name]:
                raise ValueError(f"{name!r} must be {list(shapes[name])} (got {list(array.shape)})")
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ValueError(f"{name!r} must be floating point and finite")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value:g}" for name, value in self.settings.items())
        return f"FoldIn({self.kind!r}, [{len(self.x_item)}, {self.x_item.dim}], {settings})"


def _settings(kind: str, given: Mapping[str, float]) -> dict[str, float]:
    unknown = given.keys() - SETTINGS[kind].keys()
    if unknown:
        raise ValueError(
            f"'settings' of {kind!r} must be out of {[*SETTINGS[kind]]} (got {[*unknown]})"
        )
    require_at_least(0, **{name: value for name, value in given.items() if name != "scale"})
    settings = {**SETTINGS[kind], **given}
    require_positive(**{name: settings[name] for name in settings if name in ("target", "scale")})
    return {name: float(value) for name, value in settings.items()}
