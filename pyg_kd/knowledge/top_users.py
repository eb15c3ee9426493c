"""The best users of every item, out of the tiles in which items are ranked for users."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from pyg_kd.functional.ranking import stable_topk

#: Places beside the list of an item, for users that may get onto it: as many as the list has, and
#: at least these.
SPARE = 64


class TopUsers:
    r"""Keeps the best ``k`` users of every item while users come by in ascending order.

    Among equal scores the lower id is first, as :func:`~pyg_kd.functional.ranking.rank_unseen`
    has it. A score that does not exceed the ``k``-th of its item is passed over; what exceeds it
    is put beside the list, which is sorted when that place is full. So the ``n``-th user costs a
    comparison for each item, and sorting only for the share ``k / n`` of them.

    Args:
        num_items: Number of items.
        k: Length of the lists.
        device: Where the scores are.

    Example:
        >>> top = TopUsers(2, k=2)
        >>> top.add(torch.arange(3), 0, torch.tensor([[0.5, 0.1], [0.7, -torch.inf], [0.5, 0.3]]))
        >>> top.result()[1]
        tensor([[1, 0],
                [2, 0]], dtype=torch.int32)
    """

    def __init__(self, num_items: int, k: int, device: torch.device | None = None) -> None:
        self.num_items, self.k, self.spare = num_items, k, max(k, SPARE)
        # Lists and the places beside them, made when the first scores tell their type.
        self.values = torch.empty(0, 0, device=device)
        self.ids = torch.empty(0, 0, dtype=torch.int32, device=device)
        self.bound = torch.empty(0, device=device)
        self.used = torch.empty(0, dtype=torch.long, device=device)

    @torch.no_grad()
    def add(self, rows: Tensor, start: int, scores: Tensor) -> None:
        r"""See a tile.

        Args:
            rows: Users, int64 ``[b]``, ascending, and above those of earlier tiles of these items.
            start: The first of the items.
            scores: ``[b, t]``; those of ``-inf`` do not count.
        """
        if not self.values.numel():
            self._make(scores)
        for some, part in zip(rows.split(self.spare), scores.split(self.spare), strict=True):
            self._add(some, start, part)

    def _make(self, scores: Tensor) -> None:
        places = self.num_items, self.k + self.spare
        self.values = scores.new_full(places, -inf)
        self.ids = torch.full(places, -1, dtype=torch.int32, device=scores.device)
        self.bound = scores.new_full((self.num_items,), -inf)
        self.used = torch.zeros(self.num_items, dtype=torch.long, device=scores.device)

    def _add(self, rows: Tensor, start: int, scores: Tensor) -> None:
        bound = self.bound[start : start + scores.size(1)]
        open_ = (scores.amax(0) > bound).nonzero().squeeze(1)
        if not open_.numel():
            return
        part = scores[:, open_].t()
        item, place = (part > bound[open_].unsqueeze(1)).nonzero(as_tuple=True)
        count, items = torch.bincount(item, minlength=len(open_)), open_ + start
        full = self.used[items] + count > self.spare
        if bool(full.any()):
            self._sort(items[full])
        # By item, then by user: candidates of an item stand one after another.
        first = count.cumsum(0) - count
        slot = torch.arange(len(item), device=item.device) - first[item]
        slot += self.used[items][item] + self.k
        self.values[items[item], slot] = part[item, place]
        self.ids[items[item], slot] = rows[place].to(torch.int32)
        self.used[items] += count

    def _sort(self, items: Tensor) -> None:
        """Bring candidates onto the lists of some items."""
        values, place = stable_topk(self.values[items], self.k)
        # Lists hold lower ids than candidates, so places keep equal scores in order.
        ids = self.ids[items].gather(1, place)
        self.values[items, : self.k], self.ids[items, : self.k] = values, ids
        self.values[items, self.k :] = -inf
        self.used[items], self.bound[items] = 0, values[:, -1]

    def result(self) -> tuple[Tensor, Tensor]:
        """Scores, padded with ``-inf``, and users, int32, padded with -1, ``[I, k]`` both."""
        if not self.values.numel():  # no user came by
            self._make(self.values)
        for items in self.used.nonzero().squeeze(1).split(2**16):
            self._sort(items)
        values = self.values[:, : self.k].contiguous()
        return values, self.ids[:, : self.k].masked_fill(values == -inf, -1)


def merged_top(parts: Sequence[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    r"""The best of lists of disjoint users.

    Args:
        parts: Scores and users ``[n, k]`` of each, as :meth:`TopUsers.result` returns them, those
            of lower users first.
        k: Length of the lists.

    Returns:
        Scores and users, ``[n, k]``.
    """
    values, ids = (torch.cat(some, dim=1) for some in zip(*parts, strict=True))
    values, place = stable_topk(values, k)
    return values, ids.gather(1, place)
