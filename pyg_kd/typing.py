"""The vocabulary of the package, named once.

Every graph is a :class:`~torch_geometric.data.HeteroData` with the node types
:data:`USER` and :data:`ITEM` and one edge type from user to item, the interactions; other node
and edge types are for models that read them. Whatever a model computes for the nodes travels
as a ``x_dict``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from torch import Tensor, cat, from_numpy

USER = "user"
ITEM = "item"

#: The edge type that data sets of this package write. Any relation name is read.
INTERACTS = (USER, "interacts", ITEM)

#: Representations by node type: ``{"user": [U, d], "item": [I, d]}``.
XDict = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    r"""A mini-batch of ``(user, positive, negative)`` triples, a row each.

    Where several processes train on one batch, each has a :meth:`share`: a part of the triples, and
    a part of the distinct users and items of the *whole* batch. What is summed over triples or over
    entities adds up over the shares to what it is for the whole batch.

    Args:
        user: User ids, int64, shape ``[B]``.
        positive: Items the users interacted with, int64, shape ``[B]``.
        negative: Items the users did not interact with, int64, shape ``[B]``
            or ``[B, N]``.
        portion: Which share of which batch this is; ``None`` for a whole batch.
    """

    user: Tensor
    positive: Tensor
    negative: Tensor
    portion: Portion | None = field(default=None, repr=False)

    @property
    def whole(self) -> Batch:
        """The batch that this is a share of, or itself."""
        return self if self.portion is None else self.portion.batch

    @property
    def place(self) -> tuple[int, int]:
        """The number of this share, from 0, and how many there are: 1 for a whole batch."""
        return (0, 1) if self.portion is None else (self.portion.rank, self.portion.num_shares)

    @property
    def num_shares(self) -> int:
        """Processes that share the batch, 1 for a whole batch."""
        return self.place[1]

    def share(
        self, rank: int, num_shares: int, total: Callable[[Tensor], Tensor] | None = None
    ) -> Batch:
        r"""What one of several processes does of this batch.

        Args:
            rank: Number of the process, from 0.
            num_shares: Processes that share the batch.
            total: Adds up a tensor over the processes, for losses that relate entities.

        Example:
            >>> from torch import tensor
            >>> ids = tensor([3, 1, 3, 2])
            >>> batch = Batch(ids, ids, ids)
            >>> [batch.share(rank, 2).unique_users.tolist() for rank in range(2)]
            [[1, 2], [3]]
        """
        if num_shares == 1:
            return self
        portion = Portion(self, rank, num_shares, total)
        user, positive, negative = map(portion.of, (self.user, self.positive, self.negative))
        return Batch(user, positive, negative, portion)

    def own(self, x: Tensor) -> Tensor:
        r"""Cut a tensor with a row for each entity, or triple, of the whole batch to this share.

        What is random in a loss is drawn for the whole batch and cut by this, so that it doesn't
        depend on the number of processes.
        """
        return x if self.portion is None else self.portion.of(x)

    def total(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all shares, without gradient; every process asks for it."""
        return x if self.portion is None else self.portion.sum(x)

    @cached_property
    def unique_users(self) -> Tensor:
        """The distinct users of the batch, ascending, int64."""
        if self.portion is not None:
            return self.own(self.whole.unique_users)
        return _distinct(self.user)

    @cached_property
    def unique_items(self) -> Tensor:
        """The distinct items of the batch, positives and negatives together."""
        if self.portion is not None:
            return self.own(self.whole.unique_items)
        return _distinct(cat([self.positive, self.negative.flatten()]))

    @cached_property
    def unique_positives(self) -> Tensor:
        """The distinct positives, ascending, int64."""
        if self.portion is not None:
            return self.own(self.whole.unique_positives)
        return _distinct(self.positive)

    @cached_property
    def unique_negatives(self) -> Tensor:
        """The distinct negatives, ascending, int64."""
        if self.portion is not None:
            return self.own(self.whole.unique_negatives)
        return _distinct(self.negative)

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


@dataclass(frozen=True)
class Portion:
    r"""The ``rank``-th of ``num_shares`` parts of a batch.

    Args:
        batch: The whole batch.
        rank: Which part.
        num_shares: Number of parts.
        total: Adds up a tensor over the processes.
    """

    batch: Batch
    rank: int
    num_shares: int
    total: Callable[[Tensor], Tensor] | None = None

    def of(self, x: Tensor) -> Tensor:
        """The rows of a tensor in this part, contiguous."""
        parts: tuple[Tensor, ...] = x.tensor_split(self.num_shares)
        return parts[self.rank]

    def sum(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all parts."""
        if self.total is None:
            raise ValueError("'total' must be given to Batch.share() by who relates entities")
        return self.total(x)


#: Ids for each that is drawn, up to which marking a table of them is faster than sorting.
MARKED = 32


def _distinct(ids: Tensor) -> Tensor:
    """The distinct ids, ascending, int64."""
    if ids.device.type == "cpu" and type(ids) is Tensor and ids.numel():
        array = ids.numpy().ravel()
        size = int(array.max()) + 1
        if size <= MARKED * len(array) and array.min() >= 0:
            found = np.zeros(size, dtype=np.bool_)
            found[array] = True
            return from_numpy(np.flatnonzero(found))
    distinct: Tensor = ids.unique()
    return distinct
