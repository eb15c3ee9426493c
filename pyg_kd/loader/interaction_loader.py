"""Mini-batches of interactions with negatives, made by tensor operations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count
from pyg_kd.functional.sampling import UnseenItems
from pyg_kd.graph import interactions
from pyg_kd.typing import Batch

#: Interactions for which negatives are drawn at a time.
CHUNK = 1 << 20

#: What an epoch visits once.
Unit = Literal["interaction", "user"]
UNITS: tuple[str, ...] = get_args(Unit)


class InteractionLoader:
    r"""Shuffled :class:`~pyg_kd.typing.Batch` objects of all interactions of a graph.

    A negative is uniform among the items its user has no edge to; who has edges to all is left
    out, with a warning: there is nothing to rank for them. By ``"user"``
    an epoch visits every user once, with one of its interactions at random:
    what a loss over whole lists of a user needs, and no more. An epoch is
    a function of ``(seed, epoch)`` alone, so a run can continue at any epoch.
    Nothing here loops over interactions, and everything happens on the device
    of the graph.

    Args:
        data: The training graph.
        batch_size: Interactions, or users, in a batch; the last one may be smaller.
        by: ``"interaction"`` (default) or ``"user"``.
        num_negatives: Negatives of each interaction.
        seed: Seed of the order and of the negatives.
        rank: Number of this process among ``world_size``; each gets its
            :meth:`share <pyg_kd.typing.Batch.share>` of every batch.
        world_size: Number of processes.

    Raises:
        ValueError: If the graph has no edges, a size is not positive, ``by`` is
            unknown, ``rank`` is none of the processes, or every user has seen the
            whole catalogue.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> [len(batch) for batch in InteractionLoader(data, batch_size=32)]
        [32, 32, 16]
    """

    def __init__(
        self,
        data: HeteroData,
        batch_size: int,
        *,
        by: Unit = "interaction",
        num_negatives: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        edges = interactions(data)
        edge_index, _, num_items = edges
        require_count(batch_size=batch_size, num_negatives=num_negatives)
        require_choice(UNITS, by=by)
        if not 0 <= rank < world_size:
            raise ValueError(f"'rank' must lie in 0..{world_size - 1} (got {rank})")
        if edge_index.size(1) == 0:
            raise ValueError("'data' has no interactions to train on")
        seen = edges.by_user()
        full = seen.degree >= num_items
        if bool(full.any()):
            edge_index = _without(full, edge_index, num_items)
        self.edge_index, self.by = edge_index, by
        if by == "user":
            active = (seen.degree > 0) & ~full
            self.seen, self.active = seen, active.nonzero().squeeze(1)
        #: Interactions an epoch visits.
        self.num_visits = edge_index.size(1) if by == "interaction" else len(self.active)
        self.unseen = UnseenItems(seen, num_items).to(edge_index.device)
        self.batch_size, self.num_negatives, self.seed = batch_size, num_negatives, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(self.num_visits / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """One epoch; the next iteration is the next epoch."""
        device = self.edge_index.device
        generator = torch.Generator(device).manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        order = torch.randperm(self.num_visits, device=device, generator=generator)
        # Whole batches only, so that a chunk never ends inside one.
        for part in order.split(max(CHUNK // self.batch_size, 1) * self.batch_size):
            user, positive = self._interactions(part, generator)
            negative = self.unseen.sample(user, self.num_negatives, generator=generator)
            for columns in zip(*self._batches(user, positive, negative), strict=True):
                yield Batch(*columns).share(self.rank, self.world_size)

    def _interactions(self, part: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The interactions numbered ``part``, or one of each user numbered so."""
        if self.by == "interaction":
            # Several times as fast as indexing.
            user, positive = (end.index_select(0, part) for end in self.edge_index)
            return user, positive
        user = self.active[part]
        draw = torch.rand(part.numel(), device=part.device, generator=generator, dtype=torch.double)
        return user, self.seen.col[self.seen.ptr[user] + (draw * self.seen.degree[user]).long()]

    def _batches(self, *columns: Tensor) -> Iterator[list[Tensor]]:
        for column in columns:
            column = column.squeeze(1) if column.dim() == 2 and column.size(1) == 1 else column
            yield list(column.split(self.batch_size))

    def __repr__(self) -> str:
        return (
            f"InteractionLoader({self.num_visits}, batch_size={self.batch_size}, by={self.by!r}, "
            f"num_negatives={self.num_negatives}, seed={self.seed})"
        )


def _without(full: Tensor, edge_index: Tensor, num_items: int) -> Tensor:
    """The edges without those of users who have seen all items."""
    users = full.nonzero().squeeze(1).tolist()
    shown = ", ".join(map(str, users[:3])) + (", ..." if len(users) > 3 else "")
    edge_index = edge_index[:, ~full[edge_index[0]]]
    if edge_index.size(1) == 0:
        raise ValueError(f"every user has seen all {num_items} items: no negative is left")
    warnings.warn(
        f"users who have seen all {num_items} items are left out of training, as no negative is "
        f"left for them: {len(users)} (row {shown})",
        stacklevel=3,
    )
    return edge_index
