"""Embarrassingly shallow autoencoders."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count, require_positive
from pyg_kd.functional.sparse import CSR, row_matmul
from pyg_kd.graph import interactions
from pyg_kd.models.fitted import Fitted, one_hot
from pyg_kd.models.gram import inverse_gram, quadratic_forms


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
        size = min(self.num_users, self.num_items)
        if size > max_size:
            raise ValueError(
                f"'data' has {self.num_users} users and {self.num_items} items: a matrix of "
                f"{size} x {size} would have to be inverted, {4 * size**2 / 2**30:.1f} GiB "
                f"({max_size=}, {4 * max_size**2 / 2**30:.1f} GiB, can be raised)"
            )
        self.l2, self.by_user = l2, self.num_users <= self.num_items
        edges = interactions(data)
        by_user, by_item = edges.by_user(), edges.by_item()
        self.ones: Tensor
        self.weight: Tensor
        self.scale: Tensor
        self.register_buffer("ones", torch.ones(len(by_user.col), device=by_user.col.device))
        for name, side in (("user", by_user), ("item", by_item)):
            self.register_buffer(f"{name}_ptr", side.ptr.to(torch.int32))
            self.register_buffer(f"{name}_col", side.col.to(torch.int32))
        sides = self._pattern("user"), self._pattern("item")
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

    def _pattern(self, side: str) -> CSR:
        return CSR(getattr(self, f"{side}_ptr"), getattr(self, f"{side}_col"), self.ones)

    @property
    def observed(self) -> CSR:
        """The edges of the graph that the model was fitted to, by user."""
        return self._pattern("user")

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        users, items = x_user.squeeze(1), x_item.squeeze(1)
        if not self.by_user:
            return _product(self._pattern("user"), users, self.weight, items)
        product = _product(self._pattern("item"), items, self.weight, users)
        return self._block(users, items) - (product * self.scale[items].unsqueeze(1)).t()

    def _block(self, users: Tensor, items: Tensor) -> Tensor:
        """The entries of X for some users and items, ``[b, t]``."""
        if len(users) <= len(items):
            signal = one_hot(users, self.ones.new_ones(self.num_users))
            return row_matmul(self._pattern("item"), items, signal).t()
        signal = one_hot(items, self.ones.new_ones(self.num_items))
        return row_matmul(self._pattern("user"), users, signal)

    def __repr__(self) -> str:
        return f"EASE({self.num_users}, {self.num_items}, l2={self.l2})"


def _product(rows: CSR, index: Tensor, matrix: Tensor, columns: Tensor) -> Tensor:
    """Rows ``index`` of a sparse matrix times ``columns`` of a dense one."""
    if len(columns) < len(index):
        return row_matmul(rows, index, matrix[:, columns])
    return row_matmul(rows, index, matrix)[:, columns]
