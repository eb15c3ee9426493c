"""A timeline in blocks: what was known at each step, and what came next."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kd.checks import require_count
from pyg_kd.graph import as_edges
from pyg_kd.transforms.relations import without_pairs_
from pyg_kd.transforms.split import (
    checked_edges,
    edge_times,
    has_targets,
    interaction_store,
    set_targets,
    with_messages,
)
from pyg_kd.typing import ITEM, USER


@dataclass(frozen=True)
class TimeStep:
    r"""What was known when a block ended, and the block after it.

    All graphs have all nodes of the timeline, also those that nobody knew yet.

    Args:
        number: The number of the last known block, from 0, the base.
        train: The messages are what is known, but for the end of it.
        val: The same messages; the targets are the end of what is known, of users who have a
            message.
        test: The messages are all that is known; the targets are the next block.
        probe: Messages as in ``test``; the targets are what was held out of the last known block
            for good. ``None`` where nothing was.
        boundary: The time of the first interaction of the next block: all messages are earlier.
        user_since: The block of each user's first interaction, int64 ``[U]``; ``number + 1``
            for new users, whose first one is a target, and -1 for those who come later.
        item_since: The same for items, ``[I]``.
    """

    number: int
    train: HeteroData
    val: HeteroData
    test: HeteroData
    probe: HeteroData | None
    boundary: float
    user_since: Tensor
    item_since: Tensor

    def counts(self) -> dict[str, int]:
        """Users and items, known and new, and the targets of each kind."""
        user, item = as_edges(interaction_store(self.test).edge_label_index)
        new_user = self.user_since[user] == self.number + 1
        new_item = self.item_since[item] == self.number + 1
        return {
            "messages": int(interaction_store(self.test).edge_index.size(1)),
            "users": _between(self.user_since, self.number),
            "items": _between(self.item_since, self.number),
            "new users": int((self.user_since == self.number + 1).sum()),
            "new items": int((self.item_since == self.number + 1).sum()),
            "targets": user.numel(),
            "targets of new users": int(new_user.sum()),
            "targets of new items": int(new_item.sum()),
            "targets of known users and items": int((~new_user & ~new_item).sum()),
        }


def _between(since: Tensor, last: int) -> int:
    return int(((since >= 0) & (since <= last)).sum())


class TimeBlocks(BaseTransform):
    r"""Cuts the timeline of all interactions into a base block and increments.

    Of :math:`E` interactions ordered by time the base has the first
    :math:`b = \lfloor E \cdot base + 1/2 \rfloor`, and increment :math:`k` of :math:`K` starts
    with number :math:`b + \lfloor (E - b) k / K + 1/2 \rfloor`, counted from 0. Interactions at
    equal times stay together, in the later block: a block starts with the *time* of its first
    interaction, so that blocks are equally large but for ties.

    Returns a list of ``increments`` :class:`TimeStep`. Step :math:`t` knows the base and the first
    :math:`t` increments; what comes next are its test targets. Validation targets are the end of
    what is known, cut by the same rule. Nothing in a step is later than its targets, and its
    messages are earlier than its ``boundary``. Other relations from user to item lose the pairs
    that a step holds out or that come later; other edge types are kept, whatever times they have.

    Numbers of nodes stay those of the whole timeline, so that tables of different steps compare.
    A user without messages can't be ranked by a trained table: train on the users who have some,
    and fold others in (:mod:`pyg_kd.retrieval.fold_in`) once they have, or rank by popularity.
    Nor can an item without messages be listed. ``user_since`` and ``item_since`` tell both.

    With ``probe``, that share of every block is never a message: what a model that goes on
    learning still knows of earlier blocks can be measured on it. No interaction is held out whose
    user would have no message in that block or before.

    Args:
        base: The share of the base block, between 0 and 1.
        increments: How many blocks follow.
        val: The share of what is known that is validated on.
        probe: The share of each block that is held out for good.
        seed: Of what is held out. The global random state is not touched.

    Raises:
        TypeError: If the graph is not a ``HeteroData``.
        ValueError: If an option is out of range, or the graph is not a user-item graph, has no
            edges or repeated ones, has no edge attribute ``time``, has an ``edge_label_index``
            already, or its times are too coarse for so many blocks.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.transforms import TimeBlocks
        >>> steps = TimeBlocks(base=0.5, increments=5)(SyntheticInteractions()[0])
        >>> [step.counts()["messages"] for step in steps]
        [20000, 24000, 28000, 32000, 36000]
        >>> bool(steps[0].test["user", "item"].time.max() < steps[0].boundary)
        True
    """

    def __init__(
        self,
        base: float = 0.5,
        increments: int = 5,
        *,
        val: float = 0.1,
        probe: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not 0 < base < 1:
            raise ValueError(f"'base' must lie between 0 and 1 (got {base})")
        require_count(increments=increments)
        for name, value in (("val", val), ("probe", probe)):
            if not 0 <= value < 1:
                raise ValueError(f"{name!r} must lie in 0..1, 1 excluded (got {value})")
        self.base, self.increments = base, increments
        self.val, self.probe, self.seed = val, probe, seed

    def forward(self, data: HeteroData) -> list[TimeStep]:
        """Cut ``data`` into steps."""
        edge_index, _ = checked_edges(data)
        if has_targets(data):
            raise ValueError("'data' must have no targets yet (got an 'edge_label_index')")
        time = edge_times(data)
        block, starts = self.blocks(time)
        held = self._held_out(edge_index[0], block, int(data[USER].num_nodes))
        return [self._step(data, time, block, held, t, starts[t]) for t in range(self.increments)]

    def blocks(self, time: Tensor) -> tuple[Tensor, list[float]]:
        r"""The block of each interaction, int64 ``[E]``, and the time at which each increment
        starts.

        Raises:
            ValueError: If a block would be empty.
        """
        ordered = time.sort().values
        count = len(ordered)
        first = int(count * self.base + 0.5)
        size = (count - first) / self.increments
        begin = [first + int(size * k + 0.5) for k in range(self.increments)]
        if min(begin) < 1 or max(begin) >= count or ordered[begin[0]] == ordered[0]:
            raise self._too_coarse(ordered)
        starts = ordered[torch.tensor(begin, device=time.device)]
        if not bool((starts[1:] > starts[:-1]).all()):
            raise self._too_coarse(ordered)
        return torch.bucketize(time, starts, right=True), starts.tolist()

    def _too_coarse(self, ordered: Tensor) -> ValueError:
        return ValueError(
            f"'time' must differ enough for base={self.base} and increments={self.increments} "
            f"(got {ordered.unique_consecutive().numel()} different times of {len(ordered)} edges)"
        )

    def _held_out(self, user: Tensor, block: Tensor, num_users: int) -> Tensor:
        """Which interactions are never a message, bool ``[E]``."""
        # On the CPU, so that a seed means the same interactions on every device.
        generator = torch.Generator("cpu").manual_seed(self.seed)
        draw = torch.rand(len(user), generator=generator, device="cpu").to(user.device)
        held = draw < self.probe
        first = torch.full((num_users,), self.increments + 1, device=user.device)
        first.scatter_reduce_(0, user[~held], block[~held], "amin")
        return held & (first[user] <= block)

    def _step(
        self, data: HeteroData, time: Tensor, block: Tensor, held: Tensor, t: int, start: float
    ) -> TimeStep:
        known = (block <= t) & ~held
        late = self._end(time, known)
        user, item = as_edges(interaction_store(data).edge_index)
        train = known & ~late
        ranked = torch.zeros(int(data[USER].num_nodes), dtype=torch.bool, device=user.device)
        ranked[user[train]] = True
        probe = held & (block == t)
        told = known | (block == t + 1)
        return TimeStep(
            t,
            _graph(data, train),
            _graph(data, train, late & ranked[user]),
            _graph(data, known, block == t + 1),
            _graph(data, known, probe) if bool(probe.any()) else None,
            start,
            _since(user[told], block[told], int(data[USER].num_nodes)),
            _since(item[told], block[told], int(data[ITEM].num_nodes)),
        )

    def _end(self, time: Tensor, known: Tensor) -> Tensor:
        """Which of the known interactions are validated on, bool ``[E]``."""
        ordered = time[known].sort().values
        begin = int(len(ordered) * (1 - self.val) + 0.5)
        if begin >= len(ordered):
            return torch.zeros_like(known)
        if ordered[begin] == ordered[0]:
            raise self._too_coarse(ordered)
        return known & (time >= ordered[begin])

    def __repr__(self) -> str:
        return (
            f"TimeBlocks(base={self.base}, increments={self.increments}, val={self.val}, "
            f"probe={self.probe}, seed={self.seed})"
        )


def _graph(data: HeteroData, messages: Tensor, targets: Tensor | None = None) -> HeteroData:
    """A graph that knows of some interactions alone, and of targets, both bool ``[E]``."""
    graph = with_messages(copy.copy(data), messages)
    without_pairs_(graph, as_edges(interaction_store(data).edge_index)[:, ~messages])
    if targets is not None:
        set_targets(graph, data, targets)
    return graph


def _since(ids: Tensor, block: Tensor, size: int) -> Tensor:
    """The first block of each node, -1 for those without."""
    never = int(block.max()) + 1
    first = torch.full((size,), never, device=ids.device).scatter_reduce_(0, ids, block, "amin")
    return first.masked_fill_(first == never, -1)
