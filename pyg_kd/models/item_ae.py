"""Autoencoders of items."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.catalogue import catalogue_logsumexp
from pyg_kd.functional.edge_scores import with_ones
from pyg_kd.functional.losses import multinomial_loss
from pyg_kd.models.autoencoder import Rows
from pyg_kd.models.base import Recommender
from pyg_kd.models.layers import require_dropout
from pyg_kd.typing import ITEM, USER, Batch, XDict


class ItemAE(Recommender):
    r"""Encodes each item from its users, after I-AutoRec of `"AutoRec: Autoencoders Meet
    Collaborative Filtering" <https://doi.org/10.1145/2740908.2742726>`_.

    With :math:`r_i` the indicator of an item's users, scaled to unit length and, in training,
    subject to dropout,

    .. math::
        h_i = \tanh(V^\top r_i + b), \qquad z_{ui} = \langle w_u, h_i \rangle + b_u, \qquad
        L = - \sum_i \sum_{u \in N_i} \log \frac{e^{z_{ui}}}{\sum_v e^{z_{vi}}}

    over the unique items of the batch, positives and negatives together, and *all* users. The
    paper fits observed ratings by least squares, which learns nothing from implicit feedback,
    where every rating is one. The likelihood is that of MultVAE with users and items swapped.
    Least squares over all pairs, zeros included, reached .20 where the likelihood reaches .29
    (validation Recall@50, CiteULike).

    The model learns :math:`p(u \mid i)`, which is not comparable between items. The score
    therefore includes the frequency of the item:

    .. math::
        s_{ui} = \log p(u \mid i) + \log |N_i| = z_{ui} - \log \sum_v e^{z_{vi}} + \log |N_i|

    This is still an inner product, of ``[w_u, b_u, 1]`` and
    ``[h_i, 1, log |N_i| - log sum_v exp z_vi]``; to compute the last term, :meth:`forward` visits
    all pairs once, in tiles. An item without users is treated as having one.

    Args:
        data: The training graph.
        dim: Width of the hidden layer.
        dropout: Probability of hiding an interaction from the encoder in training.

    Raises:
        ValueError: If ``dropout`` is not in [0, 1).

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> ItemAE(data, dim=4)(data)["item"].shape
        torch.Size([10, 6])
    """

    default_loss: ClassVar[str] = "own"
    own_loss_reads: ClassVar[bool] = False

    def __init__(self, data: HeteroData, dim: int, *, dropout: float = 0.5) -> None:
        super().__init__(data, dim)
        require_dropout(dropout)
        self.dropout = dropout
        self.user_input = nn.Parameter(torch.empty(self.num_users, dim))
        self.hidden_bias = nn.Parameter(torch.empty(dim))
        # The last column is the bias of each user.
        self.user_output = nn.Parameter(torch.empty(self.num_users, dim + 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialise all parameters."""
        nn.init.xavier_normal_(self.user_input)
        nn.init.xavier_normal_(self.user_output)
        for bias in (self.hidden_bias, self.user_output[:, -1]):
            nn.init.normal_(bias.detach(), std=0.001)

    @property
    def out_dim(self) -> int:
        """Width of the hidden layer plus two columns: users' biases and items' offsets."""
        return self.dim + 2

    def forward(self, data: HeteroData) -> XDict:
        """Representations, with items encoded from all their users, without dropout."""
        rows, items = self._rows(data), torch.arange(self.num_items, device=self.user_input.device)
        x_item = self._encode(rows, items, 0.0)
        degree = rows.observed.ptr.diff().clamp(min=1).to(x_item.dtype)
        offset = degree.log() - catalogue_logsumexp(x_item, self.user_output)
        x_item = torch.cat([x_item, offset.to(x_item.dtype).unsqueeze(1)], dim=1)
        return {USER: with_ones(self.user_output), ITEM: x_item}

    def own_loss(self, x_dict: XDict, data: HeteroData, batch: Batch) -> Tensor:
        """The negative log-likelihood of the users of the batch's unique items.

        The items are encoded again, with dropout in training; ``x_dict`` is not read.
        """
        rows, items = self._rows(data), batch.unique_items
        x_item = self._encode(rows, items, self.dropout if self.training else 0.0)
        return multinomial_loss(x_item, self.user_output, items, rows.observed)

    def _rows(self, data: HeteroData) -> Rows:
        return self.cached(data, lambda data: Rows.of(data, ITEM))

    def _encode(self, rows: Rows, items: Tensor, p: float) -> Tensor:
        hidden = torch.tanh(rows.layer(items, self.user_input, p) + self.hidden_bias)
        return with_ones(hidden)

    def __repr__(self) -> str:
        return super().__repr__()[:-1] + f", dropout={self.dropout})"
