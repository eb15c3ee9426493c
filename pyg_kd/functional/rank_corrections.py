"""Where a student misjudges a teacher's ranking, and what is drawn to put it right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.sampling import row_blocks

#: Ranked entries scored and drawn from at once.
BLOCK_ENTRIES = 2**19


class RankCorrections(nn.Module):
    r"""A teacher's ranking for every row, and the student's ranks within the same lists.

    Until :meth:`refresh` the student is taken to order every list the other way round. Its ranks
    belong to a run and cannot be had again later, so they are part of the state that is saved.

    Args:
        ranked: Column ids, best first, int32 ``[R, N]``, padded with -1 at the end.
        num_under: Columns to draw that the student ranks too low.
        num_over: Columns to draw that it ranks too high.
        epsilon: Steepness of the weights, per rank.
    """

    ranked: Tensor
    ranks: Tensor
    lists: Tensor

    def __init__(self, ranked: Tensor, num_under: int, num_over: int, epsilon: float) -> None:
        super().__init__()
        #: Lengths of the two parts of a list.
        self.parts = [min(num, ranked.size(1)) for num in (num_under, num_over)]
        self.epsilon = epsilon
        self.register_buffer("ranked", ranked, persistent=False)
        self.register_buffer("lists", None, persistent=False)
        width = ranked.size(1)
        dtype = torch.int16 if width < 2**15 else torch.int32
        place = torch.arange(width, device=ranked.device)
        last = (ranked >= 0).sum(1, dtype=dtype, keepdim=True) - 1
        self.register_buffer("ranks", (last - place.to(dtype)).flatten())

    def blocks(self) -> tuple[Tensor, ...]:
        """The row ids, int64, in blocks of a bounded number of entries."""
        return row_blocks(len(self.ranked), self.ranked.size(1), BLOCK_ENTRIES, self.ranked.device)

    @torch.no_grad()
    def refresh(self, x_row: Tensor, x_col: Tensor) -> None:
        r"""Rank the lists by the inner products of ``[R, d]`` with ``[C, d]``.

        Equal scores count against the student: they rank the other way round.
        """
        ranks = self.ranks.view(self.ranked.shape)
        place = torch.arange(self.ranked.size(1), device=self.ranked.device)
        for rows in self.blocks():
            scores = list_scores(x_row[rows], x_col, self.ranked[rows].flip(1))
            order = scores.sort(dim=1, descending=True, stable=True).indices
            rank = torch.empty_like(order).scatter_(1, order, place.expand_as(order))
            ranks[rows] = rank.flip(1).to(ranks.dtype)

    def draw(self) -> None:
        r"""Draw ``lists``, int32 ``[R, sum(parts)]``: what is ranked too low, then too high.

        Without replacement, with :math:`p \propto \tanh(\epsilon |g|)` for a gap of :math:`g`
        ranks. Both parts are in the teacher's order and padded with -1.
        """
        ranks, drawn = self.ranks.view(self.ranked.shape), []
        place = torch.arange(self.ranked.size(1), device=self.ranked.device)
        log_weight = (self.epsilon * place).tanh().log()
        for rows in self.blocks():
            ranked = self.ranked[rows]
            gap = torch.where(ranked < 0, 0, ranks[rows] - place)
            # The largest of log-weights with Gumbel noise are a draw without replacement. Nothing
            # is both too low and too high, so one key serves for both.
            noise = torch.empty(gap.shape, device=gap.device).exponential_().log_()
            key = log_weight[gap.abs()].sub_(noise)
            for wrong, num in zip((gap > 0, gap < 0), self.parts, strict=True):
                drawn.append(_largest(torch.where(wrong, key, -torch.inf), ranked, num))
        self.lists = torch.cat([torch.cat(drawn[::2]), torch.cat(drawn[1::2])], dim=1)


def _largest(key: Tensor, ranked: Tensor, num: int) -> Tensor:
    """The entries of ``ranked`` with the ``num`` largest keys, in order; -1 for those of -inf."""
    width = ranked.size(1)
    key, place = key.topk(num, dim=1, sorted=False)
    place = torch.where(key == -torch.inf, width, place).sort(dim=1).values
    listed = ranked.gather(1, place.clamp(max=width - 1))
    return torch.where(place == width, -1, listed)
