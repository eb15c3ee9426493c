"""A teacher's lists as a recommender, so that they can be measured like any model."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.requirements import check_knowledge
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER, XDict


class Listed(Recommender):
    r"""Ranks by the lists that a graph carries: an ensemble's, or those of a model elsewhere.

    The score of the item at rank :math:`r` of a user's list of length :math:`K` is
    :math:`K - r`, and that of any other item 0. Representations are ids, int64 ``[U, 1]`` and
    ``[I, 1]``.

    Args:
        graph: A graph with ``teacher_items``, int ``[U, K]``, padded with -1.

    Raises:
        ValueError: If the graph carries no lists.

    Example:
        >>> from pyg_kd import evaluate
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.knowledge import fuse
        >>> from pyg_kd.models import EASE, KernelRidge
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=200, num_items=100, num_edges=4_000)[0]
        >>> train, val, test = UserSplit(seed=0)(data)
        >>> ensemble = fuse([EASE(train), KernelRidge(train)], data=train)
        >>> evaluate(Listed(ensemble), train, test, k=20, metrics=["recall"]).keys()
        dict_keys(['recall@20'])
    """

    inner_product: ClassVar[bool] = False
    latent: ClassVar[bool] = False
    trainable: ClassVar[bool] = False

    def __init__(self, graph: HeteroData) -> None:
        check_knowledge(graph, "Listed", ("teacher_items",))
        super().__init__(graph, dim=1)
        #: The graph that carries the lists, which methods are bound to.
        self.graph = graph
        self.lists: Tensor
        self.register_buffer("lists", trusted_lists(graph)[0].to(torch.int32))

    def forward(self, data: HeteroData) -> XDict:
        """The ids of users and items."""
        self.check_data(data)
        device = self.lists.device
        sizes = {USER: self.num_users, ITEM: self.num_items}
        return {key: torch.arange(n, device=device).unsqueeze(1) for key, n in sizes.items()}

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        items, order = x_item.squeeze(1).sort()
        lists, length = self.lists[x_user.squeeze(1)].long(), self.lists.size(1)
        place = torch.searchsorted(items, lists).clamp_max(max(len(items) - 1, 0))
        scores = x_user.new_zeros(len(lists), len(items) + 1, dtype=torch.float)
        if len(items):
            # What is not among these items is written to a last column that is dropped.
            column = torch.where(items[place] == lists, order[place], len(items))
            worth = length - torch.arange(length, device=lists.device)
            scores.scatter_(1, column, worth.float().expand_as(column))
        return scores[:, :-1].contiguous()

    def score(self, x_dict: XDict, edge_index: Tensor) -> Tensor:
        """Scores of user-item pairs, ``[E]`` for an int64 ``edge_index`` of ``[2, E]``."""
        user, item = (
            x_dict[key][index] for key, index in zip((USER, ITEM), edge_index, strict=True)
        )
        hit = self.lists[user.squeeze(1)] == item
        rank = hit.int().argmax(1)
        return (self.lists.size(1) - rank).float() * hit.any(1)

    def __repr__(self) -> str:
        return f"Listed({self.num_users}, {self.num_items}, length={self.lists.size(1)})"
