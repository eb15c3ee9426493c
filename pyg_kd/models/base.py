"""What every recommender has in common."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.bipartite import interactions
from pyg_kd.functional.edge_scores import edge_scores
from pyg_kd.typing import ITEM, USER, XDict


class Recommender(nn.Module):
    r"""A graph goes in, representations of its users and items come out.

    Teachers and students are the same classes. A subclass writes
    ``forward(data)``, and :meth:`score_block` and :meth:`score` where its
    score is no inner product.

    Args:
        data: The training graph; only its sizes are read here.
        dim: Width of the embeddings.
        init_std: Standard deviation of the initial embeddings.

    Raises:
        ValueError: If ``dim`` is not positive or the graph is none of users
            and items.
    """

    #: The base loss that :class:`~pyg_kd.training.Trainer` takes by default.
    default_loss: ClassVar[str] = "bpr"

    def __init__(self, data: HeteroData, dim: int, init_std: float) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"'dim' must be positive (got {dim})")
        _, self.num_users, self.num_items = interactions(data)
        self.dim = dim
        self.init_std = init_std
        self.user_embedding = nn.Parameter(torch.empty(self.num_users, dim))
        self.item_embedding = nn.Parameter(torch.empty(self.num_items, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the embeddings anew from a normal distribution."""
        nn.init.normal_(self.user_embedding, std=self.init_std)
        nn.init.normal_(self.item_embedding, std=self.init_std)

    def forward(self, data: HeteroData) -> XDict:
        """Representations ``{"user": [U, d], "item": [I, d]}`` of a graph's nodes."""
        raise NotImplementedError

    def score(self, x_dict: XDict, edge_index: Tensor) -> Tensor:
        """Scores of user-item pairs, ``[E]`` for an int64 ``edge_index`` of ``[2, E]``."""
        return edge_scores(x_dict[USER], x_dict[ITEM], edge_index)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of all pairs of ``b`` users and ``t`` items, ``[b, t]``."""
        return x_user @ x_item.t()

    def check_data(self, data: HeteroData) -> None:
        """Raise ``ValueError`` unless ``data`` has as many users and items as this model."""
        sizes = data[USER].num_nodes, data[ITEM].num_nodes
        if sizes != (self.num_users, self.num_items):
            raise ValueError(
                f"'data' has {sizes[0]} users and {sizes[1]} items, the model was built for "
                f"{self.num_users} and {self.num_items}"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_users}, {self.num_items}, dim={self.dim})"
