"""Neural graph collaborative filtering."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, normalize
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.functional.layer_blocks import layer_blocks
from pyg_kd.functional.neighbor_sampling import OTHER
from pyg_kd.functional.propagate import normalized_adjacency, propagate
from pyg_kd.functional.sampled_propagate import block_matmul, layer_sizes, leading_rows, rows_at
from pyg_kd.functional.subgraph import Subgraph
from pyg_kd.models.base import Recommender
from pyg_kd.models.layers import dropout, require_dropout
from pyg_kd.typing import ITEM, USER, XDict


class NGCF(Recommender):
    r"""The graph recommender of `"Neural Graph Collaborative Filtering"
    <https://arxiv.org/abs/1905.08108>`_.

    A message carries the neighbour itself and its interaction with the node:

    .. math::
        M_l = \hat A X_{l-1}, \qquad
        X_l = \mathrm{LeakyReLU}_{0.2}\left((X_{l-1} + M_l)\, W_l^\top
              + (M_l \odot X_{l-1})\, V_l^\top\right), \qquad
        X' = [X_0 \,\|\, X_1 \,\|\, \dots \,\|\, X_L]

    Scores are inner products. All layers have the width of the embeddings. Message dropout drops
    entries of :math:`X_l`, as in the authors' code; there is no node dropout.

    :math:`\hat A = D^{-1/2} A D^{-1/2}` and a single activation around the sum follow the paper.
    The authors' code instead computes
    :math:`\mathrm{LeakyReLU}(M_l W_l^\top + b) + \mathrm{LeakyReLU}((M_l \odot X_{l-1})
    V_l^\top + c)`, with :math:`M_l = D^{-1} (A + I) X_{l-1}` in *both* terms
    (:math:`D` counts the self-loops): a mean over the neighbours and the node itself. It also
    scales rows to unit length before concatenating them; only that is an option, ``normalize``.

    Args:
        data: The training graph.
        dim: Width of the embeddings and of every layer.
        num_layers: Number of layers :math:`L`.
        dropout: Probability of dropping an entry of a layer's output in training.
        normalize: Scale the rows of every layer's output to unit length.
        init_std: Standard deviation of the initial embeddings.
        block_rows: Rows of a layer that are computed at a time, and again while differentiated:
            what a layer leaves for its gradients is then its input and its messages, and no more.
            By default all.

    Raises:
        ValueError: If ``num_layers`` or ``block_rows`` is not positive, or ``dropout`` lies outside
            [0, 1).

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> NGCF(data, dim=4, num_layers=2)(data)["item"].shape
        torch.Size([10, 12])
    """

    default_loss: ClassVar[str] = "sampled_softmax"

    structure: ClassVar[tuple[str, ...]] = ("normalize",)

    def __init__(
        self,
        data: HeteroData,
        dim: int,
        num_layers: int = 2,
        *,
        dropout: float = 0.1,
        normalize: bool = False,
        init_std: float = 0.1,
        block_rows: int | None = None,
    ) -> None:
        super().__init__(data, dim)
        require_count(num_layers=num_layers)
        layer_blocks(block_rows, None)  # checked
        self.block_rows = block_rows
        require_dropout(dropout)
        self.num_layers, self.dropout, self.normalize = num_layers, dropout, normalize
        self.init_std = init_std
        self.user_embedding = nn.Parameter(torch.empty(self.num_users, dim))
        self.item_embedding = nn.Parameter(torch.empty(self.num_items, dim))
        self.neighbor = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(num_layers))
        self.affinity = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(num_layers))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialise the embeddings, and the layers by Glorot's rule, as the paper does."""
        super().reset_parameters()
        for layer in (*self.neighbor, *self.affinity):
            nn.init.xavier_uniform_(layer.weight)

    @property
    def out_dim(self) -> int:
        """Width of the embeddings and all layers together."""
        return (self.num_layers + 1) * self.dim

    def forward(self, data: HeteroData) -> XDict:
        """The embeddings and the output of every layer, concatenated."""
        adjacency = self.cached(data, normalized_adjacency)
        x: list[Tensor] = [self.user_embedding, self.item_embedding]
        out = [[embedding] for embedding in x]
        for neighbor, affinity in zip(self.neighbor, self.affinity, strict=True):
            means = propagate(x[0], x[1], adjacency, 1, block_rows=self.block_rows)
            for side, mean in enumerate(means):
                x[side] = self._layer_of_mean(neighbor, affinity, x[side], mean)
                out[side].append(self._row(x[side]))
        return {USER: torch.cat(out[0], 1), ITEM: torch.cat(out[1], 1)}

    def tables_of_rows(self) -> dict[str, nn.Parameter]:
        """The embeddings."""
        return {USER: self.user_embedding, ITEM: self.item_embedding}

    def represent_seeds(self, subgraph: Subgraph) -> XDict:
        """The embeddings of the seeds and the output of every layer, over sampled neighbours."""
        sizes = layer_sizes(subgraph, self.num_layers)
        tables = self.tables_of_rows()
        x = {kind: rows_at(t, subgraph.n_id[kind][: sizes[0][kind]]) for kind, t in tables.items()}
        out = {kind: [x[kind][: sizes[-1][kind]]] for kind in x}
        for size, neighbor, affinity in zip(sizes[1:], self.neighbor, self.affinity, strict=True):
            before, x = x, {}
            for kind, num in size.items():
                own = before[kind][:num]
                sent = block_matmul(leading_rows(subgraph.blocks[kind], num), before[OTHER[kind]])
                x[kind] = self._layer(neighbor, affinity, own, own + sent)
                out[kind].append(self._row(x[kind][: sizes[-1][kind]]))
        return {kind: torch.cat(layers, 1) for kind, layers in out.items()}

    def _layer_of_mean(
        self, neighbor: nn.Module, affinity: nn.Module, x: Tensor, mean: Tensor
    ) -> Tensor:
        def layer(x: Tensor, mean: Tensor) -> Tensor:
            return self._layer(neighbor, affinity, x, 2 * mean)  # X + M, which the mean is half of

        if self.block_rows is None:
            return layer(x, mean)
        pairs = zip(x.split(self.block_rows), mean.split(self.block_rows), strict=True)
        return torch.cat([checkpoint(layer, *pair, use_reentrant=False) for pair in pairs])

    def _layer(self, neighbor: nn.Module, affinity: nn.Module, x: Tensor, total: Tensor) -> Tensor:
        """A layer's output, of nodes and of the sums of themselves and their messages."""
        out = leaky_relu(neighbor(total) + affinity((total - x) * x), 0.2)
        return dropout(out, self.dropout) if self.training else out

    def _row(self, x: Tensor) -> Tensor:
        return normalize(x) if self.normalize else x

    def __repr__(self) -> str:
        return (
            f"{super().__repr__()[:-1]}, num_layers={self.num_layers}, dropout={self.dropout}, "
            f"normalize={self.normalize})"
        )
