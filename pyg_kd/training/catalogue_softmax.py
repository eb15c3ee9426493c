"""The base loss that takes all items of a user at once."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_choice, require_count, require_positive
from pyg_kd.functional.catalogue import excluded_pairs
from pyg_kd.functional.losses import catalogue_cross_entropy
from pyg_kd.functional.sparse import CSR, gather_rows
from pyg_kd.graph import Interactions, interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict

#: What becomes of a user's own items in the denominator of the softmax.
Own = Literal["mask", "push"]
OWN_ITEMS: tuple[str, ...] = get_args(Own)


class CatalogueSoftmax(nn.Module):
    r"""Softmax cross-entropy of all items of a user, summed over the users of a batch.

    .. math::
        L = \sum_u \frac{1}{|N_u|^b} \sum_{i \in N_u} \Bigl[
        \log \sum_{j \notin N_u} e^{\rho(u, j) / \tau} - \frac{\rho(u, i)}{\tau} \Bigr]

    with :math:`\rho` the cosine, as in :class:`SampledSoftmax`, and for all items of a user the
    one denominator of the multinomial likelihood in `"Variational Autoencoders for Collaborative
    Filtering" <https://arxiv.org/abs/1802.05814>`_. So an epoch takes a score for every user and
    item :math:`j`, where :class:`SampledSoftmax` takes one for every interaction and negative:
    use it with ``Trainer(batch_by="user")``, which visits every user once. Of a batch by
    interactions it takes the distinct users, each with all of its items.

    Args:
        temperature: :math:`\tau`.
        num_items: Items of a step, drawn uniformly without replacement for all of its users, by
            which the sum over :math:`j` is estimated. Its expectation is exact up to a constant
            factor, which has no gradient; that of its logarithm is not. ``None``, or more than
            there are, takes the whole catalogue.
        own: ``"mask"`` (default) leaves a user's own items out of the denominator, as above, so
            that they don't compete with each other; ``"push"`` leaves them in.
        balance: :math:`b`: with 0 (default) all interactions weigh the same, with 1 all users.
        normalize: Score by the cosine (default), not by the inner product.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data["user"].num_nodes, data["item"].num_nodes = 1, 3
        >>> data["user", "interacts", "item"].edge_index = torch.tensor([[0], [0]])
        >>> x_dict = {"user": torch.ones(1, 2), "item": torch.ones(3, 2)}
        >>> user = positive = negative = torch.tensor([0])
        >>> CatalogueSoftmax()(x_dict, data, Batch(user, positive, negative))
        tensor(0.6931)
    """

    #: Called with ``(x_dict, graph, batch)``: a user's items are those of the graph.
    reads_graph = True
    row_wise = (USER,)

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        num_items: int | None = 4096,
        own: Own = "mask",
        balance: float = 0.0,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        require_choice(OWN_ITEMS, own=own)
        require_positive(temperature=temperature)
        require_at_least(0, balance=balance)
        if num_items is not None:
            require_count(num_items=num_items)
        self.temperature, self.num_items, self.own = temperature, num_items, own
        self.balance, self.normalize = balance, normalize

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The users whose rows a batch reads; items are read as a whole."""
        return {USER: batch.unique_users, ITEM: None}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The loss of the batch's users."""
        users, x_item = batch.unique_users, x_dict[ITEM]
        x_user = gather_rows(x_dict[USER], users)
        if self.normalize:
            x_user, x_item = normalize(x_user, dim=1), normalize(x_item, dim=1)
        edges, excluded = interactions(graph), None
        if self.own == "mask":
            nothing = users.new_empty(len(users), 0)
            excluded = excluded_pairs(*edges.by_user(), users, nothing)
        name, weigh = f"weights {self.balance} of interactions", partial(_weights, self.balance)
        target, mass = edges.cached(name, weigh)
        return catalogue_cross_entropy(
            x_user / self.temperature,
            x_item,
            users,
            target._replace(value=target.value.to(x_item.dtype)),
            mass.to(x_item.dtype),
            excluded=excluded,
            part=self._draw(x_item),
        )

    def _draw(self, x_item: Tensor) -> Tensor | None:
        """The items of a step, ascending; ``None`` for all."""
        if self.num_items is None or self.num_items >= len(x_item):
            return None
        drawn = torch.randperm(len(x_item), device=x_item.device)[: self.num_items]
        return drawn.sort().values

    def __repr__(self) -> str:
        return (
            f"CatalogueSoftmax(temperature={self.temperature}, num_items={self.num_items}, "
            f"own={self.own!r}, balance={self.balance}, normalize={self.normalize})"
        )


def _weights(balance: float, edges: Interactions) -> tuple[CSR, Tensor]:
    """What every interaction weighs, and their sum by user."""
    seen = edges.by_user()
    degree = seen.degree.to(torch.float)
    weight = degree.clamp(min=1) ** -balance
    value = weight.repeat_interleave(seen.degree)
    return CSR.of(seen, value), degree * weight
