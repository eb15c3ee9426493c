"""Embarrassingly shallow autoencoders."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count, require_positive
from pyg_kd.functional.sparse import CSR
from pyg_kd.models.fitted import (
    Fitted,
    hold_pattern,
    invertible_side,
    pattern,
    pattern_block,
    pattern_product,
)
from pyg_kd.models.gram import inverse_gram, quadratic_forms
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
    and cubic time.

    Scores are not inner products of narrow vectors: representations are the ids of users and
    items, int64 ``[U, 1]`` and ``[I, 1]``.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        l2: The penalty :math:`\lambda`, in interactions.
        max_size: The most rows that the inverted matrix may have.

    Raises:
        ValueError: If ``l2`` is not positive or too small for float32, or there are more than
            ``max_size`` users and more than ``max_size`` items.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = EASE(data, l2=10.0)
        >>> x_dict = model(data)
        >>> model.score_block(x_dict["user"][:2], x_dict["item"]).shape
        torch.Size([2, 10])
    """

    def __init__(self, data: HeteroData, l2: float = 250.0, *, max_size: int = 20_000) -> None:
        super().__init__(data, dim=1)
        require_positive(l2=l2)
        require_count(max_size=max_size)
        self.l2 = l2
        self.by_user = invertible_side(self.num_users, self.num_items, max_size) == USER
        hold_pattern(self, data)
        self.weight: Tensor
        self.scale: Tensor
        sides = pattern(self, USER), pattern(self, ITEM)
        inverse = inverse_gram(*(sides if self.by_user else sides[::-1]), l2)
        if self.by_user:
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

    @property
    def observed(self) -> CSR:
        """The edges of the graph that the model was fitted to, by user."""
        return pattern(self, USER)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        users, items = x_user.squeeze(1), x_item.squeeze(1)
        if not self.by_user:
            return pattern_product(pattern(self, USER), users, self.weight, items)
        product = pattern_product(pattern(self, ITEM), items, self.weight, users)
        return pattern_block(self, users, items) - (product * self.scale[items].unsqueeze(1)).t()

    def __repr__(self) -> str:
        return f"EASE({self.num_users}, {self.num_items}, l2={self.l2})"
