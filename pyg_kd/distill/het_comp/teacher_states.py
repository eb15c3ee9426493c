"""Which states of its teachers a student aims at, user by user, and what those rank."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyg_kd.functional.ranking import top_unseen
from pyg_kd.functional.ranks import Gain, at_state, rank_discrepancy, rank_ensemble, rank_spread
from pyg_kd.functional.sampling import row_blocks
from pyg_kd.functional.sparse import HeldCSR
from pyg_kd.graph import Neighbors
from pyg_kd.typing import ITEM, USER, XDict

#: Listed items processed at once.
BLOCK_ENTRIES = 2**18


class TeacherStates(nn.Module):
    r"""A pointer to a state of every teacher for every user, and what the states rank.

    The state of this module is the pointers and the discrepancies they started with; the rankings
    are constants.

    Args:
        items: Rankings of unobserved items, ``[U, X, V, K]``, padded with -1.
        observed: Rankings of observed items, ``[U, X, V, P]``, padded with -1.
        seen: The observed items of every user.
        num_compared: Items at the top of two rankings that are compared.
        gain: See :func:`~pyg_kd.functional.ranks.rank_discrepancy`.
    """

    items: Tensor
    observed: Tensor
    pointer: Tensor
    target: Tensor

    def __init__(
        self, items: Tensor, observed: Tensor, seen: Neighbors, num_compared: int, gain: Gain
    ) -> None:
        super().__init__()
        self.num_compared, self.gain = min(num_compared, items.size(3)), gain
        self.last = items.size(2) - 1
        self.seen = HeldCSR(seen)
        for name, value in {"items": items, "observed": observed}.items():
            self.register_buffer(name, value, persistent=False)
        # Where a teacher repeats its first state for all users, pointers start at the last repeat.
        repeated = (items[:, :, 1:] == items[:, :, :1]).all(3).all(0).cumprod(1).sum(1)
        pointer = repeated.to(torch.int8).repeat(len(items), 1)
        self.register_buffer("pointer", pointer)
        # NaN: not measured yet.
        self.register_buffer("target", torch.full_like(pointer, torch.nan, dtype=torch.float32))

    def _blocks(self) -> tuple[Tensor, ...]:
        width = self.items.size(1) * self.items.size(3)
        return row_blocks(len(self.items), width, BLOCK_ENTRIES, self.items.device)

    @property
    def arrived(self) -> Tensor:
        """Whether every pointer is at the last state, bool ``[1]``."""
        return (self.pointer == self.last).flatten().all(0, keepdim=True)

    @torch.no_grad()
    def discrepancy(self, x_dict: XDict) -> Tensor:
        """Between a student and the last state of every teacher, float32 ``[U, X]``."""
        last = torch.full_like(self.pointer, self.last)
        return self._discrepancy(self._ranked(x_dict), last)

    @torch.no_grad()
    def move(self, x_dict: XDict, threshold: float) -> None:
        r"""Advance the pointers of users for whom the student has come near the next state.

        A pointer advances by one if the discrepancy to the next state was, when that became the
        next, more than ``threshold`` times what it is now, or if it has grown since. The first
        call only measures.

        Args:
            x_dict: The student's representations.
            threshold: How much of an approach is enough.
        """
        ranked = self._ranked(x_dict, (self.pointer < self.last).any(1))
        now = self._discrepancy(ranked, (self.pointer + 1).clamp(max=self.last))
        # Compare products, since a discrepancy may be 0.
        near = (self.target > threshold * now) | (self.target < now) | (now == 0)
        moves = near & (self.pointer < self.last) & ~self.target.isnan()
        self.pointer = self.pointer + moves.to(torch.int8)
        following = self._discrepancy(ranked, (self.pointer + 1).clamp(max=self.last))
        self.target = torch.where(moves | self.target.isnan(), following, self.target)

    def _ranked(self, x_dict: XDict, needed: Tensor | None = None) -> Tensor:
        tables = x_dict[USER], x_dict[ITEM], *self.seen.get()
        ranked: Tensor = top_unseen(*tables, self.num_compared, needed)
        return ranked

    def _discrepancy(self, ranked: Tensor, state: Tensor) -> Tensor:
        found = []
        for rows in self._blocks():
            teacher = at_state(self.items[rows], state[rows].long())[..., : self.num_compared]
            student = ranked[rows].unsqueeze(1)
            found.append(rank_discrepancy(student, teacher, gain=self.gain))
        return torch.cat(found)

    def ensemble(
        self, num_listed: int, num_observed: int, *, final: bool, consistency: bool
    ) -> Tensor:
        r"""One ranking from those of all teachers, of observed and of unobserved items.

        See :func:`~pyg_kd.functional.ranks.rank_ensemble`.

        Args:
            num_listed: Number K of unobserved items.
            num_observed: Number P of observed items.
            final: Use the last states instead of the pointers.
            consistency: Add :math:`e^{-\mathit{std} / 100}`, with the standard deviation of an
                item's rank over the states up to the one that is used.

        Returns:
            int32 ``[U, P + K]``: observed items, then unobserved ones, padded with -1 each.
        """
        state = torch.full_like(self.pointer, self.last) if final else self.pointer
        parts = []
        for rows in self._blocks():
            at, row = state[rows].long(), []
            for k, all_states in ((num_observed, self.observed), (num_listed, self.items)):
                states = all_states[rows]
                extra = (-rank_spread(states, at) / 100).exp() if consistency else None
                lists = at_state(states, at)
                row.append(rank_ensemble(lists, k, extra=extra))
            parts.append(torch.cat(row, 1))
        return torch.cat(parts)
