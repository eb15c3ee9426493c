"""One branch of a model with several objectives."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pyg_kd.functional.consensus import Kind
from pyg_kd.functional.edge_scores import with_ones
from pyg_kd.models.layers import dropout, unit_ball

#: A head is named after its objective; the last one is not among the paper's five.
HeadName = Literal["bpr", "cml", "bce", "mse", "multinomial", "item_multinomial"]
HEADS: tuple[HeadName, ...] = get_args(HeadName)

#: The network of the paper, or that of the authors' code.
Variant = Literal["paper", "reference"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

#: Heads with a weight vector for every item, or for every user.
TABLES = {"multinomial": "item", "item_multinomial": "user"}


class Branch(nn.Module):
    r"""Two networks on top of shared embeddings, followed by a head.

    On both sides :math:`h = W_2\,\operatorname{drop}(\operatorname{relu}(W_1 e + b_1)) + b_2`
    has width ``dim // 4``; the hidden width is ``dim // 2``. The head turns :math:`h` into vectors
    that score a pair by inner product or distance:

    * ``"bpr"``: :math:`\langle W h_u, W h_i \rangle`,
    * ``"cml"``: :math:`-\|h_u - h_i\|^2`, both clipped to the unit ball,
    * ``"bce"``, ``"mse"``: :math:`w \cdot (h_u \circ h_i)`,
    * ``"multinomial"``: :math:`\langle h_u, W_i \rangle + b_i`, without an item network,
    * ``"item_multinomial"``: :math:`\langle W_u, h_i \rangle + b_u`, without a user network.

    In the reference variant users and items share one network, the first four heads have biases,
    and ``"cml"`` applies a linear layer :math:`W h + b` before clipping.

    Args:
        name: The head.
        dim: Width of the embeddings.
        num_users: Number of users.
        num_items: Number of items.
        dropout: Probability of dropping a hidden unit in training.
        variant: ``"paper"`` or ``"reference"``.
    """

    def __init__(
        self,
        name: HeadName,
        dim: int,
        num_users: int,
        num_items: int,
        dropout: float = 0.1,
        variant: Variant = "paper",
    ) -> None:
        super().__init__()
        self.name, self.dropout = name, dropout
        hidden, out = max(dim // 2, 1), max(dim // 4, 1)
        reference = variant == "reference"
        #: One network for both sides, or one per side that has no table.
        self.shared = _network(dim, hidden, out) if reference else None
        self.user, self.item = (
            None if reference or TABLES.get(name) == side else _network(dim, hidden, out)
            for side in ("user", "item")
        )
        sizes = {"bpr": out, "bce": 1, "mse": 1} | ({"cml": out} if reference else {})
        sizes |= {"multinomial": num_items, "item_multinomial": num_users}
        biased = reference or name in TABLES
        self.head = nn.Linear(out, sizes[name], bias=biased) if name in sizes else None
        #: Width of the vectors; a bias adds a column, matched by ones on the other side.
        self.width = out + (biased and name not in ("bpr", "cml"))
        self.kind: Kind = "distance" if name == "cml" else "inner"

    def reset_parameters(self) -> None:
        """Reinitialise all weights."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    def forward(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of users and items, ``[U, width]`` and ``[I, width]``, from their embeddings."""
        table, head = TABLES.get(self.name), self.head
        user, item = (
            self._table() if table == side else self._hidden(self.shared or network, x)
            for side, network, x in (("user", self.user, user), ("item", self.item, item))
        )
        if table is not None:
            return (user, with_ones(item)) if table == "user" else (with_ones(user), item)
        if self.name in ("bce", "mse") and head is not None:
            user = user * head.weight
            if head.bias is None:
                return user, item
            return torch.cat([user, head.bias.expand(len(user), 1)], 1), with_ones(item)
        if head is not None:
            user, item = head(user), head(item)
        return (unit_ball(user), unit_ball(item)) if self.name == "cml" else (user, item)

    def _hidden(self, network: nn.ModuleList | None, x: Tensor) -> Tensor:
        assert network is not None
        hidden = network[0](x).relu()
        out: Tensor = network[1](dropout(hidden, self.dropout) if self.training else hidden)
        return out

    def _table(self) -> Tensor:
        assert self.head is not None
        return torch.cat([self.head.weight, self.head.bias.unsqueeze(1)], 1)


def _network(dim: int, hidden: int, out: int) -> nn.ModuleList:
    return nn.ModuleList([nn.Linear(dim, hidden), nn.Linear(hidden, out)])
