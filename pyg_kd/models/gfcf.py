"""Graph filters for collaborative filtering."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least
from pyg_kd.functional.propagate import Adjacency, normalized_adjacency
from pyg_kd.functional.sparse import CSR, csr_matmul, row_matmul
from pyg_kd.graph import interactions
from pyg_kd.models.fitted import Fitted, one_hot

#: Default rank of the filter, if the graph is large enough.
DIM = 256

#: Names of the buffers that hold the adjacency.
PARTS = tuple(f"{side}_{name}" for side in Adjacency._fields for name in CSR._fields)


class GFCF(Fitted):
    r"""The graph filter (GF-CF) of `"How Powerful is Graph Convolution for Recommendation?"
    <https://arxiv.org/abs/2108.07567>`_, which needs no training.

    .. math::
        S = R \left( \tilde R^\top \tilde R
        + \alpha D_I^{-1/2} V V^\top D_I^{1/2} \right), \qquad
        \tilde R = D_U^{-1/2} R D_I^{-1/2}

    with :math:`V` the right singular vectors of :math:`\tilde R` for its ``dim`` largest singular
    values. The first term is a linear filter, the second an ideal low-pass filter; the authors'
    code omits the second on Amazon-Book (``alpha=0``). If the singular values number ``dim`` and
    ``dim + 1`` are equal, which can happen if the graph has several components, the filter is not
    unique and depends on the order of the nodes.

    Scores are not inner products of narrow vectors: representations are the ids of users and
    items, int64 ``[U, 1]`` and ``[I, 1]``, and :meth:`score_block` propagates the signals of the
    users (or of the items, if those are fewer) over the graph. It needs memory for
    ``min(b, t) * max(U, I)`` numbers.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        dim: Rank of the low-pass filter, less than the number of users and of items. By default
            256, or the highest possible if that is less.
        alpha: Weight :math:`\alpha` of the low-pass filter.

    Raises:
        ValueError: If an option is out of range, or the graph has no edges.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = GFCF(data, dim=4)
        >>> x_dict = model(data)
        >>> model.score_block(x_dict["user"][:2], x_dict["item"]).shape
        torch.Size([2, 10])
    """

    def __init__(self, data: HeteroData, dim: int | None = None, *, alpha: float = 0.3) -> None:
        smaller = min(interactions(data)[1:])
        if smaller < 2:
            raise ValueError(f"'data' must have at least two users and two items (got {smaller})")
        dim = min(DIM, smaller - 1) if dim is None else dim
        super().__init__(data, dim)
        if dim >= smaller:
            raise ValueError(
                f"'dim' must be below {smaller}, the smaller number of users and of items "
                f"(got {dim})"
            )
        require_at_least(0, alpha=alpha)
        self.alpha = alpha
        adjacency = normalized_adjacency(data)
        for name, part in zip(PARTS, (part for block in adjacency for part in block), strict=True):
            # Cloned: loading a state writes in place, and the graph shares these tensors.
            self.register_buffer(name, part.clone())
        self.user_root: Tensor
        self.item_root: Tensor
        self.user_filter: Tensor
        self.item_filter: Tensor
        roots = [block.ptr.diff().float().sqrt() for block in adjacency]
        if not len(adjacency.user.col):
            raise ValueError("'data' has no interactions to filter")
        vectors = self._vectors(adjacency, dim)
        # R D^-1/2 is the adjacency without its scaling of rows.
        user = csr_matmul(*adjacency.user, vectors) * roots[0].unsqueeze(1)
        self.register_buffer("user_root", roots[0])
        self.register_buffer("item_root", roots[1])
        self.register_buffer("user_filter", user)
        self.register_buffer("item_filter", alpha * vectors * roots[1].unsqueeze(1))

    def _vectors(self, adjacency: Adjacency, dim: int) -> Tensor:
        """The leading right singular vectors, float32 ``[I, dim]``."""
        return _singular_vectors(adjacency.user, self.num_items, dim)

    @property
    def adjacency(self) -> Adjacency:
        """The normalised adjacency of the fitted graph."""
        parts = [getattr(self, name) for name in PARTS]
        return Adjacency(CSR(*parts[:3]), CSR(*parts[3:]))

    @property
    def observed(self) -> CSR:
        """The edges of the graph that the model was fitted to, by user."""
        return self.adjacency.user

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        users, items = x_user.squeeze(1), x_item.squeeze(1)
        of_user, of_item = self.adjacency
        if len(users) <= len(items):
            signal = csr_matmul(*of_item, one_hot(users, self.user_root))
            signal = csr_matmul(*of_user, signal.mul_(self.item_root.unsqueeze(1)))
            scores = row_matmul(of_item, items, signal).t()
        else:
            signal = csr_matmul(*of_user, one_hot(items, torch.ones_like(self.item_root)))
            signal = csr_matmul(*of_item, signal).mul_(self.item_root.unsqueeze(1))
            scores = row_matmul(of_user, users, signal) * self.user_root[users].unsqueeze(1)
        return torch.addmm(scores, self.user_filter[users], self.item_filter[items].t())

    def __repr__(self) -> str:
        return super().__repr__()[:-1] + f", alpha={self.alpha})"


def _singular_vectors(matrix: CSR, num_cols: int, rank: int) -> Tensor:
    """The leading right singular vectors, float32 ``[num_cols, rank]``, by ARPACK."""
    ptr, col, value = (part.cpu().numpy() for part in matrix)
    rows = csr_matrix((value.astype(np.float64), col, ptr), shape=(len(ptr) - 1, num_cols))
    start = np.random.default_rng(0).random(min(rows.shape))
    vectors = svds(rows, rank, v0=start)[2]
    # Only the projection is used, so signs and order don't matter.
    return torch.from_numpy(vectors.T.astype(np.float32)).to(matrix.value.device)
