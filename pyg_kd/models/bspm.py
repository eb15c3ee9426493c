"""Blurring and sharpening of interactions."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from numpy.polynomial.polynomial import polypow, polytrim
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_choice, require_count
from pyg_kd.functional.propagate import Adjacency
from pyg_kd.functional.sparse import csr_matmul, row_matmul
from pyg_kd.graph import interactions
from pyg_kd.models.fitted import one_hot
from pyg_kd.models.gfcf import GFCF
from pyg_kd.models.low_rank import leading_eigenpairs

#: Default rank of the low-pass filter, at most, and what part of the smaller side it is.
DIM, PART = 448, 16

#: How the differential equation is solved.
Solver = Literal["rk4", "euler"]
SOLVERS: tuple[str, ...] = get_args(Solver)

#: Coefficients of one step of a solver, of the powers of its width times the derivative.
STEP = {"euler": (1.0, -1.0), "rk4": (1.0, -1.0, 1 / 2, -1 / 6, 1 / 24)}

#: Whether the low-pass filter is added before sharpening or after it.
Merge = Literal["early", "late"]
MERGES: tuple[str, ...] = get_args(Merge)


class BSPM(GFCF):
    r"""The filter of `"Blurring-Sharpening Process Models for Collaborative Filtering"
    <https://arxiv.org/abs/2211.09324>`_, which needs no training.

    Interactions are blurred by one Euler step of the heat equation and by the ideal low-pass
    filter of :class:`GFCF`, and then sharpened by the equation that runs against it:

    .. math::
        B = R \left( P + \beta D_I^{-1/2} V V^\top D_I^{1/2} \right), \qquad
        \frac{d S}{d t} = -S P, \quad S(0) = B, \qquad P = \tilde R^\top \tilde R

    with :math:`\tilde R = D_U^{-1/2} R D_I^{-1/2}` and its leading right singular vectors
    :math:`V`. Scores are :math:`S(T)`, computed by a few steps of a solver. Each is a polynomial
    in :math:`P`, so that all of them together are

    .. math::
        S(T) = B \, q(P), \qquad q(z) = \left( \sum_{j=0}^{m} \frac{(-z T / n)^j}{j!} \right)^n

    with :math:`n` steps of order :math:`m`, 1 for ``"euler"`` and 4 for ``"rk4"``. What all users
    share is subtracted, so that what sets a user apart weighs more. The low-pass filter may be
    added afterwards instead, :math:`R P q(P)` being sharpened alone: the authors do that on
    Amazon-Book. Their average over several times, used on Yelp2018, is not offered.

    Ranking takes :math:`1 + m n` products with :math:`P`, where GF-CF takes one. The vectors are
    found by subspace iteration, much sooner than by GF-CF's exact solver. The defaults are the
    authors' settings on Gowalla.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        dim: Rank of the low-pass filter, less than the number of users and of items. By default a
            sixteenth of the smaller of them, at most 448.
        beta: Weight :math:`\beta` of the low-pass filter.
        sharpening: The time :math:`T`; with 0 this is GF-CF.
        num_steps: The number of steps :math:`n`.
        solver: ``"rk4"``, the classical method of Runge and Kutta, or ``"euler"``.
        merge: ``"early"`` adds the low-pass filter before sharpening, ``"late"`` after it.

    Raises:
        ValueError: If an option is out of range, or the graph has no edges.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = BSPM(data, dim=4)
        >>> x_dict = model(data)
        >>> model.score_block(x_dict["user"][:2], x_dict["item"]).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        data: HeteroData,
        dim: int | None = None,
        *,
        beta: float = 0.2,
        sharpening: float = 2.5,
        num_steps: int = 1,
        solver: Solver = "rk4",
        merge: Merge = "early",
    ) -> None:
        require_at_least(0, beta=beta, sharpening=sharpening)
        require_count(num_steps=num_steps)
        require_choice(SOLVERS, solver=solver)
        require_choice(MERGES, merge=merge)
        if dim is None:
            dim = min(DIM, max(min(interactions(data)[1:]) // PART, 1))
        super().__init__(data, dim, alpha=beta)
        self.sharpening, self.num_steps = sharpening, num_steps
        self.solver, self.merge = solver, merge
        if merge == "early":
            self.item_filter = self._sharpened(self.item_filter)

    def _vectors(self, adjacency: Adjacency, dim: int) -> Tensor:
        """The leading right singular vectors, float32 ``[I, dim]``."""
        return leading_eigenpairs(adjacency.user, adjacency.item, dim)[1]

    @property
    def coefficients(self) -> list[float]:
        """Those of the polynomial :math:`q`, of :math:`P^0` first."""
        width = self.sharpening / self.num_steps
        step = [value * width**power for power, value in enumerate(STEP[self.solver])]
        found = polytrim(polypow(step, self.num_steps))
        return [float(value) for value in found]

    def _sharpened(self, signal: Tensor) -> Tensor:
        """``q(P)`` times signals of the items, ``[I, d]``, by Horner's rule."""
        *rest, last = self.coefficients
        result: Tensor = signal * last
        for coefficient in reversed(rest):
            result = self._smoothed(result).add_(signal, alpha=coefficient)
        return result

    def _smoothed(self, signal: Tensor) -> Tensor:
        """``P`` times signals of the items."""
        of_user, of_item = self.adjacency
        smoothed: Tensor = csr_matmul(*of_item, csr_matmul(*of_user, signal))
        return smoothed

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        users, items = x_user.squeeze(1), x_item.squeeze(1)
        of_user, of_item = self.adjacency
        if len(users) <= len(items):
            signal = csr_matmul(*of_user, self._sharpened(self._profiles(users)))
            scores = row_matmul(of_item, items, signal).t()
        else:
            signal = self._sharpened(one_hot(items, torch.ones_like(self.item_root)))
            # R is the adjacency without its scaling of rows and columns.
            signal = self._smoothed(signal).mul_(self.item_root.unsqueeze(1))
            scores = row_matmul(of_user, users, signal) * self.user_root[users].unsqueeze(1)
        return torch.addmm(scores, self.user_filter[users], self.item_filter[items].t())

    def _profiles(self, users: Tensor) -> Tensor:
        """Which items some users interacted with, ``[I, b]``."""
        signal: Tensor = csr_matmul(*self.adjacency[1], one_hot(users, self.user_root))
        return signal.mul_(self.item_root.unsqueeze(1))

    def __repr__(self) -> str:
        return (
            f"BSPM({self.num_users}, {self.num_items}, dim={self.dim}, beta={self.alpha}, "
            f"sharpening={self.sharpening}, num_steps={self.num_steps}, "
            f"solver={self.solver!r}, merge={self.merge!r})"
        )
