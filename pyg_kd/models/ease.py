"""Embarrassingly shallow autoencoders."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_positive
from pyg_kd.models.fitted import (
    Fitted,
    hold_pattern,
    pattern,
    pattern_block,
    pattern_product,
    rank_or_side,
)
from pyg_kd.models.gram import inverse_gram, quadratic_forms
from pyg_kd.models.low_rank import fit_low_rank, low_rank_block
from pyg_kd.typing import ITEM, USER


class EASE(Fitted):
    r"""The linear model of `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_, in closed form.

    .. math::
        S = X B, \qquad B = I - P \operatorname{diag}(1 / \operatorname{diag}(P)), \qquad
        P = (X^\top X + \lambda I)^{-1}

    :math:`B` minimises :math:`\|X - XB\|^2 + \lambda \|B\|^2` subject to a zero diagonal. Scoring
    needs only :math:`X P` and the diagonal of :math:`P`, which, with
    :math:`M = (X X^\top + \lambda I)^{-1}`, are

    .. math::
        X P = M X, \qquad \lambda P_{ii} = 1 - x_i^\top M x_i

    so the matrix to invert is that of the items *or that of the users*, whichever are fewer. The
    model keeps one float32 matrix of that size; inversion needs memory for two or three of them
    and cubic time. Where both are more than ``max_size``, or with a ``rank``, the leading
    eigenpairs :math:`X^\top X V = V L` replace the inverse, and a term linear in
    :math:`X^\top X` the rest of its spectrum:

    .. math::
        \lambda P \approx I - V \left(\frac{L}{L + \lambda} - \kappa L\right) V^\top
        - \kappa X^\top X, \qquad \kappa = \frac{1}{\lambda + \tau}

    with the mean :math:`\tau` of the eigenvalues left. The error of an eigenvalue :math:`\mu` of
    the rest is :math:`\mu (\mu - \tau) / ((\lambda + \mu)(\lambda + \tau))`, small where the
    penalty exceeds both. Time and memory are then linear in the edges.

    Scores are not inner products of narrow vectors: representations are the ids of users and
    items, int64 ``[U, 1]`` and ``[I, 1]``.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        l2: The penalty :math:`\lambda`, in interactions.
        rank: How many eigenvectors are used instead of an inverse. By default 256 where both sides
            have more than ``max_size``.
        max_size: The most rows that an inverted matrix may have.

    Raises:
        ValueError: If an option is out of range, or ``l2`` is too small for float32.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = EASE(data, l2=10.0)
        >>> x_dict = model(data)
        >>> model.score_block(x_dict["user"][:2], x_dict["item"]).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        data: HeteroData,
        l2: float = 250.0,
        *,
        rank: int | None = None,
        max_size: int = 20_000,
    ) -> None:
        super().__init__(data, dim=1)
        require_positive(l2=l2)
        self.l2 = l2
        self.rank, self.side = rank_or_side(self, rank, max_size)
        hold_pattern(self, data)
        self.ones: Tensor
        self.weight: Tensor
        self.scale: Tensor
        sides = pattern(self, USER), pattern(self, ITEM)
        if self.rank is not None:
            users, items = (self.ones.new_ones(n) for n in (self.num_users, self.num_items))
            own = fit_low_rank(self, l2, self.rank, users, items, items)
            self.register_buffer("scale", 1 / (1 - own))
            return
        inverse = inverse_gram(*(sides if self.side == USER else sides[::-1]), l2)
        if self.side == USER:
            self.register_buffer("weight", inverse)
            self.register_buffer("scale", l2 / (1 - quadratic_forms(sides[1], inverse)))
        else:
            scale = 1 / inverse.diagonal()
            self.register_buffer("scale", scale)
            self.register_buffer("weight", inverse.mul_(-scale).fill_diagonal_(0))
        if not bool(self.scale.isfinite().all()):  # not invertible
            raise ValueError(
                f"'l2' is too small for this graph: the matrix is singular in float32 (got {l2})"
            )

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        users, items = x_user.squeeze(1), x_item.squeeze(1)
        if self.rank is not None:
            scale = self.scale[items]
            own = pattern_block(self, users, items) * (1 - scale)
            return own + low_rank_block(self, users, items) * scale
        if self.side == ITEM:
            return pattern_product(pattern(self, USER), users, self.weight, items)
        product = pattern_product(pattern(self, ITEM), items, self.weight, users)
        return pattern_block(self, users, items) - (product * self.scale[items].unsqueeze(1)).t()

    def __repr__(self) -> str:
        rank = "" if self.rank is None else f", rank={self.rank}"
        return f"EASE({self.num_users}, {self.num_items}, l2={self.l2}{rank})"
