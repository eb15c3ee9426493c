"""One branch of a model with several objectives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyg_kd.functional.edge_scores import with_ones
from pyg_kd.models.layers import dropout, unit_ball

#: The heads of a branch; the last is none of the five of the paper.
HEADS = ("bpr", "cml", "bce", "mse", "multinomial", "item_multinomial")

#: The heads that have a weight vector for every item, or every user, of its own.
TABLES = {"multinomial": "item", "item_multinomial": "user"}


class Branch(nn.Module):
    r"""Networks on top of shared embeddings, and the head that ends them.

    On either side :math:`h = W_2\,\operatorname{drop}(\operatorname{relu}(W_1 e + b_1)) + b_2`
    of width ``dim // 4``; the hidden width is ``dim // 2``. The head makes vectors of it whose
    inner products are scores, or whose distances are:

    * ``"bpr"``: :math:`\langle W h_u, W h_i \rangle`,
    * ``"cml"``: :math:`-\|h_u - h_i\|^2`, both clipped to the unit ball,
    * ``"bce"``, ``"mse"``: :math:`w \cdot (h_u \circ h_i)`,
    * ``"multinomial"``: :math:`\langle h_u, W_i \rangle + b_i`, without a network of items,
    * ``"item_multinomial"``: :math:`\langle W_u, h_i \rangle + b_u`, without one of users.

    Args:
        name: The head.
        dim: Width of the embeddings.
        num_users: Number of users.
        num_items: Number of items.
        dropout: Share of the hidden units left out in training.
    """

    def __init__(
        self, name: str, dim: int, num_users: int, num_items: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.name, self.dropout = name, dropout
        hidden, out = max(dim // 2, 1), max(dim // 4, 1)
        self.user, self.item = (
            None if TABLES.get(name) == side else nn.ModuleList(
                [nn.Linear(dim, hidden), nn.Linear(hidden, out)]
            )
            for side in ("user", "item")
        )  # fmt: skip
        sizes = {"bpr": out, "bce": 1, "mse": 1}
        sizes |= {"multinomial": num_items, "item_multinomial": num_users}
        self.head = nn.Linear(out, sizes[name], bias=name in TABLES) if name in sizes else None
        #: Width of the vectors: a bias is a column beside a column of ones.
        self.width = out + (name in TABLES)
        self.kind = "distance" if name == "cml" else "inner"

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    def forward(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of users and items, ``[U, width]`` and ``[I, width]``, from their embeddings."""
        sides = [
            self._table() if layers is None else self._network(layers, x)
            for layers, x in ((self.user, user), (self.item, item))
        ]
        if self.name == "bpr" and self.head is not None:
            return self.head(sides[0]), self.head(sides[1])
        if self.name == "cml":
            return unit_ball(sides[0]), unit_ball(sides[1])
        if self.name in ("bce", "mse") and self.head is not None:
            return sides[0] * self.head.weight, sides[1]
        return sides[0], sides[1]

    def _network(self, layers: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(layers, nn.ModuleList)
        hidden = layers[0](x).relu()
        x = layers[1](dropout(hidden, self.dropout) if self.training else hidden)
        return with_ones(x) if self.name in TABLES else x

    def _table(self) -> Tensor:
        assert self.head is not None
        return torch.cat([self.head.weight, self.head.bias.unsqueeze(1)], 1)
