"""Variational autoencoders of users."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_count
from pyg_kd.functional.edge_scores import with_ones
from pyg_kd.functional.losses import multinomial_loss
from pyg_kd.models.autoencoder import Rows
from pyg_kd.models.base import Recommender
from pyg_kd.models.layers import require_dropout
from pyg_kd.typing import ITEM, USER, Batch, XDict


class MultVAE(Recommender):
    r"""The autoencoder of `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_ (Mult-VAE).

    With :math:`r_u` the indicator of a user's items, scaled to unit length and, in training,
    subject to dropout,

    .. math::
        (\mu_u, \log \sigma_u^2) = A \tanh(V^\top r_u + b) + a, \qquad
        z_u = \mu_u + \sigma_u \circ \epsilon, \qquad h_u = \tanh(C z_u + c)

    .. math::
        s_{ui} = \langle h_u, w_i \rangle + b_i, \qquad
        L = \sum_u \Big[ - \sum_{i \in N_u} \log \frac{e^{s_{ui}}}{\sum_j e^{s_{uj}}}
        + \beta \, \tfrac{1}{2} \big\| \mu_u^2 + \sigma_u^2 - \log \sigma_u^2 - 1 \big\|_1 \Big]

    over the unique users of a batch and the whole catalogue. Scores are inner products of
    ``[h_u, 1]`` and ``[w_i, b_i]``, encoded without dropout and with :math:`\epsilon = 0`. Train
    in batches of users: ``Trainer(batch_by="user", batch_size=512)``.

    The loss encodes the users of the batch itself, with noise, instead of reading the noiseless
    representations, so the trainer need not encode all users for every batch.

    Args:
        data: The training graph.
        dim: Width of the latent variables.
        hidden_dim: Width of the hidden layers of encoder and decoder. By default three times
            ``dim``, as in the paper (600 and 200).
        dropout: Probability of hiding an interaction from the encoder in training.
        kl_weight: The weight :math:`\beta`, or its final value if annealed.
        anneal_steps: Batches over which :math:`\beta` grows linearly from 0 to ``kl_weight``; 0
            (default) disables annealing. (The authors' code counts the batches to a weight of 1
            and stops at 0.2, a fifth of the way.)

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> MultVAE(data, dim=4, hidden_dim=8)(data)["user"].shape
        torch.Size([20, 9])
    """

    default_loss: ClassVar[str] = "own"
    own_loss_reads: ClassVar[bool] = False

    def __init__(
        self,
        data: HeteroData,
        dim: int,
        *,
        hidden_dim: int | None = None,
        dropout: float = 0.5,
        kl_weight: float = 0.2,
        anneal_steps: int = 0,
    ) -> None:
        super().__init__(data, dim)
        hidden_dim = 3 * dim if hidden_dim is None else hidden_dim
        require_count(hidden_dim=hidden_dim)
        require_dropout(dropout)
        require_at_least(0, kl_weight=kl_weight)
        require_count(0, anneal_steps=anneal_steps)
        self.hidden_dim, self.dropout = hidden_dim, dropout
        self.kl_weight, self.anneal_steps = kl_weight, anneal_steps
        self.item_input = nn.Parameter(torch.empty(self.num_items, hidden_dim))
        self.hidden_bias = nn.Parameter(torch.empty(hidden_dim))
        self.to_latent = nn.Linear(hidden_dim, 2 * dim)
        self.from_latent = nn.Linear(dim, hidden_dim)
        # The last column is the bias of each item.
        self.item_output = nn.Parameter(torch.empty(self.num_items, hidden_dim + 1))
        self.num_steps: Tensor
        steps = torch.zeros((), dtype=torch.long, device=self.item_input.device)
        self.register_buffer("num_steps", steps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialise all parameters and restart the annealing."""
        linear = [self.to_latent, self.from_latent]
        for weight in (self.item_input, self.item_output, *(layer.weight for layer in linear)):
            nn.init.xavier_normal_(weight)
        biases = [self.hidden_bias, self.item_output[:, -1], *(layer.bias for layer in linear)]
        for bias in biases:
            nn.init.normal_(bias.detach(), std=0.001)
        self.num_steps.zero_()

    @property
    def out_dim(self) -> int:
        """Width of the hidden layer plus a column of biases."""
        return self.hidden_dim + 1

    def forward(self, data: HeteroData) -> XDict:
        """Representations, with users encoded from all their items, without noise."""
        users = torch.arange(self.num_users, device=self.item_input.device)
        mean, _ = self._encode(self._rows(data), users, 0.0)
        return {USER: self._decode(mean), ITEM: self.item_output}

    def own_loss(self, x_dict: XDict, data: HeteroData, batch: Batch) -> Tensor:
        """The negative log-likelihood of the items of the batch's unique users, plus the KL term.

        In training mode a call adds noise and counts as an annealing step. ``x_dict`` is not read.
        """
        rows, users = self._rows(data), batch.unique_users
        mean, log_var = self._encode(rows, users, self.dropout if self.training else 0.0)
        divergence = (mean.square() + log_var.exp() - log_var - 1).sum() / 2
        if self.training:
            noise = torch.randn_like(mean.new_empty(len(batch.whole.unique_users), mean.size(1)))
            mean = mean + batch.own(noise) * (log_var / 2).exp()
            self.num_steps += 1
        loss = multinomial_loss(self._decode(mean), self.item_output, users, rows.observed)
        return loss + self._beta() * divergence

    def _beta(self) -> Tensor | float:
        if self.anneal_steps == 0:
            return self.kl_weight
        return self.kl_weight * (self.num_steps / self.anneal_steps).clamp(max=1)

    def _rows(self, data: HeteroData) -> Rows:
        return self.cached(data, lambda data: Rows.of(data, USER))

    def _encode(self, rows: Rows, users: Tensor, p: float) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(rows.layer(users, self.item_input, p) + self.hidden_bias)
        mean, log_var = self.to_latent(hidden).chunk(2, dim=1)
        return mean, log_var

    def _decode(self, latent: Tensor) -> Tensor:
        return with_ones(torch.tanh(self.from_latent(latent)))

    def __repr__(self) -> str:
        names = ("hidden_dim", "dropout", "kl_weight", "anneal_steps")
        options = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{super().__repr__()[:-1]}, {options})"
