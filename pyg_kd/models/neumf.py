"""Neural matrix factorisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import HeteroData

from pyg_kd.functional.edge_scores import edge_scores
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER, Batch, XDict

#: Hidden activations held at once: 1 MiB on a CPU, to stay in its caches.
CPU_ENTRIES, OTHER_ENTRIES = 2**18, 2**22


class NeuMF(Recommender):
    r"""The fused network of `"Neural Collaborative Filtering" <https://arxiv.org/abs/1708.05031>`_.

    A node has two embeddings, :math:`p` for generalised matrix factorisation and :math:`q` for
    a multi-layer perceptron over the concatenated pair:

    .. math::
        s_{ui} = \langle h, p_u \odot p_i \rangle + \langle g, a_n \rangle + b, \qquad
        a_l = \mathrm{ReLU}(W_l a_{l-1} + b_l), \qquad a_0 = [q_u \,\|\, q_i]

    .. math::
        L = - \sum_{(u, p)} \log \sigma(s_{up}) - \sum_{(u, n)} \log(1 - \sigma(s_{un}))

    A representation is :math:`[p \,\|\, q]`. The paper's output layer has no bias :math:`b`, the
    authors' code has one; rankings don't depend on it. Both parts are trained together from the
    start rather than pretrained separately, and layers keep PyTorch's default initialisation
    instead of a normal distribution with standard deviation 0.01. Every score is a pass through
    the perceptron: a full ranking takes tens of times as long as one by inner products.

    Args:
        data: The training graph.
        dim: Width of each of the two embeddings.
        hidden: Widths of the perceptron's layers; ``(dim, dim // 2)`` by default.
        init_std: Standard deviation of the initial embeddings.

    Raises:
        ValueError: If ``hidden`` is empty or holds anything but positive integers.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = NeuMF(data, dim=4)
        >>> model
        NeuMF(20, 10, dim=4, hidden=(4, 2))
        >>> model(data)["user"].shape
        torch.Size([20, 8])
    """

    default_loss: ClassVar[str] = "own"
    inner_product: ClassVar[bool] = False

    def __init__(
        self,
        data: HeteroData,
        dim: int,
        *,
        hidden: Sequence[int] | None = None,
        init_std: float = 0.01,
    ) -> None:
        super().__init__(data, dim)
        hidden = (dim, max(dim // 2, 1)) if hidden is None else hidden
        if not isinstance(hidden, Sequence) or not hidden or not all(map(_is_width, hidden)):
            raise ValueError(f"'hidden' must be a list of positive widths (got {hidden!r})")
        self.hidden = tuple(hidden)
        self.init_std = init_std
        self.user_embedding = nn.Parameter(torch.empty(self.num_users, 2 * dim))
        self.item_embedding = nn.Parameter(torch.empty(self.num_items, 2 * dim))
        self.first = nn.Linear(2 * dim, self.hidden[0])
        self.deeper = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(self.hidden))
        self.output = nn.Linear(dim + self.hidden[-1], 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialise the embeddings and the layers."""
        super().reset_parameters()
        for layer in (self.first, *self.deeper, self.output):
            layer.reset_parameters()

    @property
    def out_dim(self) -> int:
        """Width of both embeddings together."""
        return 2 * self.dim

    def forward(self, data: HeteroData) -> XDict:
        """The embedding tables; a row holds both embeddings of a node."""
        self.check_data(data)
        return {USER: self.user_embedding, ITEM: self.item_embedding}

    def own_loss(self, x_dict: XDict, data: HeteroData, batch: Batch) -> Tensor:
        """Binary cross-entropy of the batch's positives and negatives."""
        p_user, q_user = gather_rows(x_dict[USER], batch.user).unsqueeze(1).split(self.dim, 2)
        p_item, q_item = gather_rows(x_dict[ITEM], batch.candidates).split(self.dim, 2)
        logits = ((self._h * p_user) * p_item).sum(2)
        logits = logits + self._perceptron(self._first_user(q_user), self._first_item(q_item))
        label = torch.zeros_like(logits)
        label[:, 0] = 1.0
        return binary_cross_entropy_with_logits(logits, label, reduction="sum")

    def score(self, x_dict: XDict, edge_index: Tensor) -> Tensor:
        """Logits of user-item pairs, ``[E]``; the backward pass recomputes activations."""
        p_user, q_user = x_dict[USER].split(self.dim, 1)
        p_item, q_item = x_dict[ITEM].split(self.dim, 1)
        product = edge_scores(self._h * p_user, p_item, edge_index)
        first = self._first_user(q_user), self._first_item(q_item)
        deep = [
            checkpoint(self._edges, *first, *ids, use_reentrant=False, preserve_rng_state=False)
            for ids in edge_index.split(self._pairs(edge_index), 1)
        ]
        return product + torch.cat(deep)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Logits of every pair, ``[b, t]``."""
        p_user, q_user = x_user.split(self.dim, 1)
        p_item, q_item = x_item.split(self.dim, 1)
        first_user, first_item = self._first_user(q_user), self._first_item(q_item)
        pairs = self._pairs(x_user)
        cols = max(min(len(x_item), pairs), 1)
        deep = [
            torch.cat([self._perceptron(rows.unsqueeze(1), t) for t in first_item.split(cols)], 1)
            for rows in first_user.split(max(pairs // cols, 1))
        ]
        return torch.cat(deep).addmm(self._h * p_user, p_item.t())

    @property
    def _h(self) -> Tensor:
        return self.output.weight[0, : self.dim]

    def _first_user(self, q_user: Tensor) -> Tensor:
        """The users' half of the first layer, before the activation."""
        return linear(q_user, self.first.weight[:, : self.dim], self.first.bias)

    def _first_item(self, q_item: Tensor) -> Tensor:
        return linear(q_item, self.first.weight[:, self.dim :])

    def _perceptron(self, first_user: Tensor, first_item: Tensor) -> Tensor:
        """The perceptron's part of the logits, from the two halves of its first layer."""
        x = (first_user + first_item).relu_()
        for layer in self.deeper:
            x = layer(x).relu_()
        return linear(x, self.output.weight[:, self.dim :], self.output.bias).squeeze(-1)

    def _edges(self, first_user: Tensor, first_item: Tensor, user: Tensor, item: Tensor) -> Tensor:
        return self._perceptron(gather_rows(first_user, user), gather_rows(first_item, item))

    def _pairs(self, x: Tensor) -> int:
        """How many pairs are scored at once."""
        entries = CPU_ENTRIES if x.device.type == "cpu" else OTHER_ENTRIES
        return max(entries // max(self.hidden), 1)

    def __repr__(self) -> str:
        return super().__repr__()[:-1] + f", hidden={self.hidden})"


def _is_width(value: object) -> bool:
    return isinstance(value, Integral) and int(value) > 0
