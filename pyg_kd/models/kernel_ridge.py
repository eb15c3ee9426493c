"""Kernel ridge regression over users."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_count, require_positive
from pyg_kd.functional.sparse import CSR
from pyg_kd.models.fitted import (
    Fitted,
    hold_pattern,
    invertible_side,
    pattern,
    pattern_block,
    pattern_product,
)
from pyg_kd.models.gram import inverse_gram
from pyg_kd.typing import ITEM, USER


class KernelRidge(Fitted):
    r"""Kernel ridge regression of a user's interactions on those of all users, in closed form.

    .. math::
        S = K (K + \lambda I)^{-1} X, \qquad K = X D_I^{-p} X^\top, \qquad
        \lambda = c \, \frac{\operatorname{tr} K}{U}

    Users are as similar as the items they share, of which rare ones count more. As a filter of
    the spectrum of :math:`K` it damps what few users have in common, as
    :class:`~pyg_kd.models.GFCF` does by cutting it off. By the push-through identity, with
    :math:`A = D_I^{-p/2} X^\top X D_I^{-p/2}`,

    .. math::
        S = X - \lambda (K + \lambda I)^{-1} X
        = X - \lambda X D_I^{-p/2} (A + \lambda I)^{-1} D_I^{p/2}

    so the matrix to invert is that of the users *or that of the items*, whichever are fewer. The
    model keeps one float32 matrix of that size; inversion needs memory for two or three of them
    and cubic time.

    Scores are not inner products of narrow vectors: representations are the ids of users and
    items, int64 ``[U, 1]`` and ``[I, 1]``.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        shrinkage: :math:`c`, the penalty relative to the mean similarity of a user to itself.
        item_power: :math:`p`, how much rare items count more.
        max_size: The most rows that the inverted matrix may have.

    Raises:
        ValueError: If an option is out of range, the graph has no edges, the matrix is singular
            in float32, or there are more than ``max_size`` users and more than ``max_size`` items.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = KernelRidge(data)
        >>> x_dict = model(data)
        >>> model.score_block(x_dict["user"][:2], x_dict["item"]).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        data: HeteroData,
        shrinkage: float = 3.0,
        *,
        item_power: float = 0.5,
        max_size: int = 20_000,
    ) -> None:
        super().__init__(data, dim=1)
        require_positive(shrinkage=shrinkage)
        require_at_least(0, item_power=item_power)
        require_count(max_size=max_size)
        self.shrinkage, self.item_power = shrinkage, item_power
        self.by_user = invertible_side(self.num_users, self.num_items, max_size) == USER
        hold_pattern(self, data)
        by_user, by_item = pattern(self, USER), pattern(self, ITEM)
        degree = by_item.ptr.diff()
        if not bool(degree.any()):
            raise ValueError("'data' has no interactions to learn from")
        # Items without edges have no entry, and any finite factor does.
        root = degree.clamp(min=1).to(self.ones.dtype) ** (item_power / 2)
        rows = by_user._replace(value=1 / root[by_user.col.long()])
        cols = by_item._replace(value=torch.repeat_interleave(1 / root, degree))
        l2 = float(shrinkage * rows.value.double().square().sum() / self.num_users)
        inverse = inverse_gram(*((rows, cols) if self.by_user else (cols, rows)), l2).mul_(-l2)
        if not bool(inverse.isfinite().all()):  # not invertible
            raise ValueError(
                "'shrinkage' is too small for this graph: the matrix is singular in float32 "
                f"(got {shrinkage})"
            )
        if not self.by_user:
            inverse = inverse.mul_(root).div_(root.unsqueeze(1))
        self.weight: Tensor
        self.ones: Tensor
        self.register_buffer("weight", inverse)

    @property
    def observed(self) -> CSR:
        """The edges of the graph that the model was fitted to, by user."""
        return pattern(self, USER)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        users, items = x_user.squeeze(1), x_item.squeeze(1)
        if self.by_user:
            product = pattern_product(pattern(self, ITEM), items, self.weight, users).t()
        else:
            product = pattern_product(pattern(self, USER), users, self.weight, items)
        return pattern_block(self, users, items) + product

    def __repr__(self) -> str:
        return (
            f"KernelRidge({self.num_users}, {self.num_items}, shrinkage={self.shrinkage}, "
            f"item_power={self.item_power})"
        )
