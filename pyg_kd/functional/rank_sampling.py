"""Sampling unseen items by the rank that representations give them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from pyg_kd.graph import Neighbors
from pyg_kd.typing import ITEM, USER, XDict

#: Scores of candidates that are sorted at once.
BLOCK_ENTRIES = 2**18


class RankSampler(torch.nn.Module):
    r"""Distinct unseen items of every user, the better ranked the more likely.

    They are drawn one after another, each among those that are left, with

    .. math::
        p_{ui} \propto \exp(-\mathit{decay} \cdot \mathrm{rank}_u(i) / |I|)

    and ranks from 0 by the inner products of users and items. With ``num_candidates`` items or
    fewer in the catalogue the law is exact. With more it holds for estimated ranks: that many
    candidates are drawn, each item with the same probability, and an item with :math:`j` better
    ones among the :math:`c_u` candidates that are unseen has the rank :math:`j n_u / c_u`, where
    :math:`n_u` items are unseen in all. Candidates are shared by a block of users and spread over
    the ids. Nothing has users times items entries.

    Args:
        seen: The items a user gets none of.
        num_items: Size of the catalogue :math:`|I|`.
        num_candidates: Items that are ranked for a user.
    """

    row: Tensor
    item: Tensor
    num_left: Tensor

    def __init__(self, seen: Neighbors, num_items: int, num_candidates: int) -> None:
        super().__init__()
        self.num_items, self.width = num_items, min(num_candidates, num_items)
        num_users, rows = seen.ptr.numel() - 1, max(BLOCK_ENTRIES // self.width, 1)
        self.starts = [*range(0, num_users, rows), num_users]
        # Where a block's edges lie is known from here on: no draw waits for the device.
        self.bounds = seen.ptr[self.starts].tolist()
        row = seen.row % rows
        self.register_buffer("row", row, persistent=False)
        self.register_buffer("item", seen.col, persistent=False)
        self.register_buffer("num_left", num_items - seen.degree, persistent=False)

    @torch.no_grad()
    def draw(self, x_dict: XDict | None, num: int, *, decay: float) -> Tensor:
        r"""Draw for all users.

        Args:
            x_dict: Who ranks: ``[U, d]`` and ``[I, d]``. ``None``: all are equally likely.
            num: Number of items.
            decay: Steepness; the best share ``1 / decay`` of the catalogue is likely.

        Returns:
            Item ids, int32 ``[U, min(num, num_candidates, I)]``, padded with -1.
        """
        num, place = min(num, self.width), torch.arange(self.width, device=self.row.device)
        decay = 0.0 if x_dict is None else decay / self.num_items
        drawn = []
        for block, edges in zip(pairwise(self.starts), pairwise(self.bounds), strict=True):
            rows, candidates = slice(*block), self._candidates()
            scores = self._scores(rows, slice(*edges), candidates, x_dict)
            left = self.num_left[rows].unsqueeze(1)
            count = (scores != -torch.inf).sum(1, keepdim=True)
            rank = place * (left / count.clamp(min=1))
            # The largest of log-weights with Gumbel noise are a draw without replacement.
            noise = torch.empty_like(scores, dtype=torch.float32).exponential_().log()
            key = (-decay * rank - noise).masked_fill_(place >= count, -torch.inf)
            best = key.topk(num, dim=1, sorted=False)
            order = scores.sort(dim=1, descending=True).indices
            items = candidates[order.gather(1, best.indices)]
            drawn.append(items.masked_fill(best.values == -torch.inf, -1).to(torch.int32))
        return torch.cat(drawn)

    def _candidates(self) -> Tensor:
        """One item from each of ``width`` ranges of ids, turned so that all are as likely."""
        device = self.row.device
        edge = torch.arange(self.width + 1, device=device) * self.num_items // self.width
        draw = torch.rand(self.width + 1, dtype=torch.double, device=device)
        inside = (draw[1:] * edge.diff()).long()
        return (edge[:-1] + inside + (draw[:1] * self.num_items).long()) % self.num_items

    def _scores(
        self, rows: slice, edges: slice, candidates: Tensor, x_dict: XDict | None
    ) -> Tensor:
        """Scores of a block of users with the candidates, ``-inf`` for what is seen."""
        shape = (rows.stop - rows.start, self.width)
        if x_dict is None:
            scores = torch.zeros(shape, device=candidates.device)
        else:
            scores = x_dict[USER][rows] @ x_dict[ITEM][candidates].t()
        place = torch.full((self.num_items,), self.width, device=candidates.device)
        place.scatter_(0, candidates, torch.arange(self.width, device=candidates.device))
        # What is no candidate goes to an entry of its own, so that shapes depend on no value.
        place, end = place.index_select(0, self.item[edges]), scores.numel()
        where = torch.where(place < self.width, self.row[edges] * self.width + place, end)
        hidden = torch.zeros(end + 1, dtype=torch.bool, device=candidates.device)
        return scores.masked_fill_(hidden.index_fill_(0, where, True)[:-1].view(shape), -torch.inf)
