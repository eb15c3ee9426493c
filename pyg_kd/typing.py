"""The vocabulary of the package, named once.

Every graph is a :class:`~torch_geometric.data.HeteroData` with the node types
:data:`USER` and :data:`ITEM` and one edge type from user to item, the interactions; other node
and edge types are for models that read them. Whatever a model computes for the nodes travels
as a ``x_dict``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, cat

USER = "user"
ITEM = "item"

#: The edge type that data sets of this package write. Any relation name is read.
INTERACTS = (USER, "interacts", ITEM)

#: Representations by node type: ``{"user": [U, d], "item": [I, d]}``.
XDict = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    r"""A mini-batch of ``(user, positive, negative)`` triples.

    Args:
        user: User ids, int64, shape ``[B]``.
        positive: Items the users interacted with, int64, shape ``[B]``.
        negative: Items the users did not interact with, int64, shape ``[B]``
            or ``[B, N]``.
    """

    user: Tensor
    positive: Tensor
    negative: Tensor

    @cached_property
    def users(self) -> Tensor:
        """The unique users of the batch, ascending, int64."""
        users: Tensor = self.user.unique()
        return users

    @cached_property
    def items(self) -> Tensor:
        """The unique items of the batch, positives and negatives together."""
        items: Tensor = cat([self.positive, self.negative.flatten()]).unique()
        return items

    @cached_property
    def positives(self) -> Tensor:
        """The unique positives, ascending, int64."""
        positives: Tensor = self.positive.unique()
        return positives

    @cached_property
    def negatives(self) -> Tensor:
        """The unique negatives, ascending, int64."""
        negatives: Tensor = self.negative.unique()
        return negatives

    @cached_property
    def candidates(self) -> Tensor:
        """The positive of each row and then its negatives, int64 ``[B, 1 + N]``: one lookup."""
        negative = self.negative.unsqueeze(1) if self.negative.dim() == 1 else self.negative
        return cat([self.positive.unsqueeze(1), negative], 1)

    def __len__(self) -> int:
        return self.user.numel()
