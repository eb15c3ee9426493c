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
    r"""A mini-batch of ``(user, positive, negative)`` triples, a row each.

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
    def unique_users(self) -> Tensor:
        """The distinct users of the batch, ascending, int64."""
        users: Tensor = self.user.unique()
        return users

    @cached_property
    def unique_items(self) -> Tensor:
        """The distinct items of the batch, positives and negatives together."""
        items: Tensor = cat([self.positive, self.negative.flatten()]).unique()
        return items

    @cached_property
    def unique_positives(self) -> Tensor:
        """The distinct positives, ascending, int64."""
        positives: Tensor = self.positive.unique()
        return positives

    @cached_property
    def unique_negatives(self) -> Tensor:
        """The distinct negatives, ascending, int64."""
        negatives: Tensor = self.negative.unique()
        return negatives

    @property
    def users(self) -> Tensor:
        """The former name of :attr:`unique_users`."""
        return self.unique_users

    @property
    def items(self) -> Tensor:
        """The former name of :attr:`unique_items`."""
        return self.unique_items

    @cached_property
    def candidates(self) -> Tensor:
        """The positive of each row and then its negatives, int64 ``[B, 1 + N]``: one lookup."""
        negative = self.negative.unsqueeze(1) if self.negative.dim() == 1 else self.negative
        return cat([self.positive.unsqueeze(1), negative], 1)

    def __len__(self) -> int:
        return self.user.numel()
