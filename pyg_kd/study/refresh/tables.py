"""Tables of vectors, or lists, of those nodes of a timeline that were known at some time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.graph import Neighbors

#: The score of what can't be listed: below all others, but not what marks padding.
LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Tables:
    r"""Vectors of users and items, whose inner products are scores.

    Args:
        user: float32 ``[U, d]``, zeros where there is no vector.
        item: float32 ``[I, d]``.
        has_user: Which users have a vector, bool ``[U]``.
        has_item: Which items, bool ``[I]``; the others are never listed.
    """

    user: Tensor
    item: Tensor
    has_user: Tensor
    has_item: Tensor

    def ranked(self, users: Tensor, seen: Neighbors, k: int, popularity: Tensor) -> Tensor:
        r"""The first ``k`` unseen items of some users.

        Args:
            users: int64 ``[n]``.
            seen: What every user has seen.
            k: Length of the lists.
            popularity: What ranks for users without a vector, ``[I]``.

        Returns:
            int64 ``[n, k]``, padded with -1.
        """

        def score(rows: Tensor, cols: slice) -> Tensor:
            found = self.user[rows] @ self.item[cols].t()
            found[:, ~self.has_item[cols]] = LOWEST
            found[~self.has_user[rows]] = popularity[cols].to(found.dtype)
            return found

        ranking = rank_unseen(score, len(self.user), len(self.item), k, seen=seen, rows=users)
        return torch.cat([block.ids for block in ranking])


@dataclass(frozen=True)
class Lists:
    r"""Ranked items of users, of a teacher whose scores are no inner products.

    Args:
        items: int64 ``[U, K]``, padded with -1, nothing but -1 for users without a list.
        has_item: Which items the teacher knew, bool ``[I]``.
    """

    items: Tensor
    has_item: Tensor

    @property
    def has_user(self) -> Tensor:
        """Which users have a list, bool ``[U]``."""
        return self.items[:, 0] >= 0

    def unseen(self, users: Tensor, seen: Neighbors) -> Tensor:
        """The lists of some users less what they have seen, int64 ``[n, K]``, padded with -1."""
        lists, size = self.items[users], len(self.has_item)
        row, col = seen.of(users)
        place = torch.arange(len(users), device=lists.device).unsqueeze(1)
        gone = torch.isin(place * size + lists, row * size + col) | (lists < 0)
        order = gone.sort(dim=1, stable=True).indices
        return lists.masked_fill(gone, -1).gather(1, order)

    def ranked(self, users: Tensor, seen: Neighbors, k: int, popularity: Tensor) -> Tensor:
        """As :meth:`Tables.ranked`; a list that is too short ends in padding."""
        lists = self.unseen(users, seen)
        short = max(k - lists.size(1), 0)
        lists = torch.nn.functional.pad(lists, (0, short), value=-1)[:, :k]
        without = ~self.has_user[users]
        if bool(without.any()):
            popular = rank_unseen(
                lambda rows, cols: popularity[cols].expand(len(rows), -1).float().clone(),
                len(self.items), len(self.has_item), k, seen=seen, rows=users[without],
            )  # fmt: skip
            lists[without] = torch.cat([block.ids for block in popular])
        return lists


#: What a teacher is kept as.
Teacher = Tables | Lists
