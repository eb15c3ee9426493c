"""Kernel ridge regression over users."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_positive
from pyg_kd.functional.sparse import csr_matmul
from pyg_kd.models.fitted import (
    Fitted,
    by_entry,
    drop_pattern,
    hold_pattern,
    pattern,
    pattern_product,
    rank_or_side,
)
from pyg_kd.models.gram import TILE, inverse_gram
from pyg_kd.models.low_rank import fit_low_rank, low_rank_block
from pyg_kd.typing import ITEM, USER


class KernelRidge(Fitted):
    r"""Kernel ridge regression of a user's interactions on those of all users, in closed form.

    .. math::
        S = X D_I^{-s} A (A + \lambda I)^{-1} D_I^{s}, \qquad
        A = D_I^{-p/2} X^\top D_U^{-q} X D_I^{-p/2}, \qquad
        \lambda = c \, \frac{\operatorname{tr} A}{U}

    Users are as similar as the items they share, of which rare ones count more (:math:`p`), and
    users with many items say less about each (:math:`q`). As a filter of the spectrum of
    :math:`A` it damps what few users have in common, as :class:`~pyg_kd.models.GFCF` does by
    cutting it off. How much popular items are favoured is set apart from that (:math:`s`). With
    :math:`q = 0` and :math:`s = p / 2` this is kernel ridge regression in the plain sense,
    :math:`S = K (K + \lambda I)^{-1} X` with :math:`K = X D_I^{-p} X^\top`; with :math:`p = 1` it
    has the normalisation of `"Why is Normalization Necessary for Linear Recommenders?"
    <https://arxiv.org/abs/2504.05805>`_.

    By the push-through identity the matrix to invert is that of the items *or that of the users*,

    .. math::
        A (A + \lambda I)^{-1} = Y^\top (Y Y^\top + \lambda I)^{-1} Y, \qquad
        Y = D_U^{-q/2} X D_I^{-p/2}

    whichever are fewer. The model keeps one float32 matrix of that size; inversion needs memory
    for two or three of them and cubic time. Where both are more than ``max_size``, or with a
    ``rank``, the leading eigenpairs :math:`A V = V L` replace the inverse, and a term linear in
    :math:`A` the rest of its spectrum:

    .. math::
        A (A + \lambda I)^{-1} \approx V \left(\frac{L}{L + \lambda} - \kappa L\right) V^\top
        + \kappa A, \qquad \kappa = \frac{1}{\lambda + \tau}

    with the mean :math:`\tau` of the eigenvalues left. The error of an eigenvalue :math:`\mu` of
    the rest is :math:`\mu (\mu - \tau) / ((\lambda + \mu)(\lambda + \tau))`, small where the
    penalty exceeds both. Time and memory are then linear in the edges.

    Scores are not inner products of narrow vectors: representations are the ids of users and
    items, int64 ``[U, 1]`` and ``[I, 1]``.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        shrinkage: :math:`c`, the penalty relative to the mean similarity of a user to itself.
        item_power: :math:`p`, how much rare items count more.
        user_power: :math:`q`, how much users with few items count more.
        score_power: :math:`s`, how much popular items are favoured.
        rank: How many eigenvectors are used instead of an inverse. By default 256 where both sides
            have more than ``max_size``.
        max_size: The most rows that an inverted matrix may have.

    Raises:
        ValueError: If an option is out of range, the graph has no edges, or the matrix is singular
            in float32.

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
        shrinkage: float = 8.0,
        *,
        item_power: float = 0.7,
        user_power: float = 0.5,
        score_power: float = 0.2,
        rank: int | None = None,
        max_size: int = 8_000,
    ) -> None:
        super().__init__(data, dim=1)
        require_positive(shrinkage=shrinkage)
        require_at_least(0, item_power=item_power, user_power=user_power, score_power=score_power)
        self.shrinkage, self.score_power = shrinkage, score_power
        self.item_power, self.user_power = item_power, user_power
        self.rank, self.side = rank_or_side(self, rank, max_size)
        hold_pattern(self, data)
        self.ones: Tensor
        self.weight: Tensor
        user, item = pattern(self, USER), pattern(self, ITEM)
        if not len(user.col):
            raise ValueError("'data' has no interactions to learn from")
        # Entities without edges have no entry, and any finite factor does.
        users, items = (side.ptr.diff().clamp(min=1).to(self.ones.dtype) for side in (user, item))
        weight, scale = users**-user_power, items ** (-item_power / 2)
        shares = csr_matmul(*item, weight.unsqueeze(1)).squeeze(1) * scale.square()
        l2 = float(shrinkage * shares.double().sum() / self.num_users)
        if self.rank is None:
            self._invert(l2, weight.sqrt(), scale, items**score_power)
        else:
            fit_low_rank(self, l2, self.rank, weight, scale, items**score_power)

    def _invert(self, l2: float, root: Tensor, scale: Tensor, out: Tensor) -> None:
        """Register the matrix that rows or columns of the interactions are multiplied by."""
        user, item = pattern(self, USER), pattern(self, ITEM)
        rows = user._replace(value=by_entry(root, user) * scale[user.col.long()])
        cols = item._replace(value=by_entry(scale, item) * root[item.col.long()])
        inverse = inverse_gram(*((rows, cols) if self.side == USER else (cols, rows)), l2)
        if not bool(inverse.isfinite().all()):  # not invertible
            raise ValueError(
                "'shrinkage' is too small for this graph: the matrix is singular in float32 "
                f"(got {self.shrinkage})"
            )
        self.register_buffer("weight", inverse)
        if self.side == ITEM:
            inverse.mul_(-l2).diagonal().add_(1)
            inverse.mul_(out).div_(out.unsqueeze(1))
            drop_pattern(self, ITEM)
            return
        inverse.mul_(root).mul_(root.unsqueeze(1))
        entering = user._replace(value=(scale / out)[user.col.long()])
        for tile in torch.arange(len(inverse), device=inverse.device).split(TILE):
            # By symmetry a row is also a column, and later rows are not overwritten yet.
            columns = csr_matmul(*item, inverse[tile].t().contiguous())
            inverse[tile] = csr_matmul(*entering, columns).t()
        self.register_buffer("item_out", scale * out)
        drop_pattern(self, USER)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        users, items = x_user.squeeze(1), x_item.squeeze(1)
        if self.rank is not None:
            return low_rank_block(self, users, items)
        if self.side == ITEM:
            return pattern_product(pattern(self, USER), users, self.weight, items)
        product = pattern_product(pattern(self, ITEM), items, self.weight, users).t()
        return product * self.get_buffer("item_out")[items]

    def __repr__(self) -> str:
        rank = "" if self.rank is None else f", rank={self.rank}"
        return (
            f"KernelRidge({self.num_users}, {self.num_items}, shrinkage={self.shrinkage}, "
            f"item_power={self.item_power}, user_power={self.user_power}, "
            f"score_power={self.score_power}{rank})"
        )
