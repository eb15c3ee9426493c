"""Interactions drawn from a seeded model of tastes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kd.datasets.graph import edge_keys, graph_from_keys
from pyg_kd.graph import check_sizes
from pyg_kd.typing import INTERACTS, ITEM, USER

#: Draws beyond this round ignore tastes: they only fill graphs that are almost complete.
_TASTE_ROUNDS = 12
#: Edges that every user has, where there are so many.
MIN_DEGREE = 3
START, SPAN = 1_500_000_000, 63_072_000  # two years from July 2017, in seconds


class SyntheticInteractions(InMemoryDataset):
    r"""A seeded data set with long tails and learnable tastes, of any size.

    Every item belongs to one group, and every user likes two groups. An
    interaction of user :math:`u` is with an item of the first liked group with
    probability :math:`\frac{2}{3} a`, of the second with :math:`\frac{1}{3} a`,
    and with any item otherwise, where :math:`a` is the ``affinity``; in each case
    items are drawn by their popularity. The popularity of items falls with their
    rank as :math:`r^{-0.8}`, and the activity of users is log-normal. Users join at
    different times, and act at random times after that.

    The graph has exactly ``num_edges`` different edges, sorted by user, then item,
    with ``time``, int64 ``[E]``, in seconds, and every user has at least
    ``min(3, num_edges // num_users)``. ``data['item'].group``, int64 ``[I]``, and
    ``data['user'].group``, int64 ``[U, 2]``, hold the true groups. The same options give
    the same graph. Memory is linear in the number of edges.

    Args:
        root: Not needed, as nothing is read or written.
        num_users: Number of users.
        num_items: Number of items.
        num_edges: Number of edges, from ``num_users`` to ``num_users * num_items``.
        seed: Seed of all draws.
        num_groups: Number of groups.
        affinity: How much of a user's activity follows taste, from 0 to 1.
        transform: Applied to the graph on every access.
        pre_transform: Applied to the graph once.

    Raises:
        ValueError: If an option is out of range or ``num_edges`` cannot fit.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> dataset = SyntheticInteractions(num_users=50, num_items=40, num_edges=300)
        >>> data = dataset[0]
        >>> dataset, data["user", "interacts", "item"].edge_index.shape
        (SyntheticInteractions(), torch.Size([2, 300]))
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        num_users: int = 2_000,
        num_items: int = 1_000,
        num_edges: int = 40_000,
        seed: int = 0,
        num_groups: int = 16,
        affinity: float = 0.8,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        sizes = {"num_users": num_users, "num_items": num_items, "num_groups": num_groups}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {value})")
        check_population(num_users, num_items, num_edges, affinity)
        super().__init__(None if root is None else str(root), transform, pre_transform)
        generator = Generator().manual_seed(seed)
        population = _population(num_users, num_items, num_groups, affinity, generator)
        data = graph_from_keys(_keys(population, num_edges, generator), num_users, num_items)
        data[USER].group = population.liked
        data[ITEM].group = population.group
        data[INTERACTS].time = _times(data[INTERACTS].edge_index[0], num_users, generator)
        if pre_transform is not None:
            data = pre_transform(data)
        self.data, self.slices = self.collate([data])


def check_population(num_users: int, num_items: int, num_edges: int, affinity: float) -> None:
    """Raise ``ValueError`` unless the options of a synthetic data set fit each other."""
    check_sizes(num_users, num_items)
    if not 0 <= affinity <= 1:
        raise ValueError(f"'affinity' must lie in 0..1 (got {affinity})")
    if not num_users <= num_edges <= num_users * num_items:
        raise ValueError(
            f"'num_edges' must lie in {num_users}..{num_users * num_items}, from one edge a "
            f"user to all items for every user (got {num_edges})"
        )


class _Population(NamedTuple):
    liked: Tensor  # [U, 2] groups
    group: Tensor  # [I]
    item_of_place: Tensor  # [I] items, ordered by group
    mass: Tensor  # [I] cumulated popularity in that order
    group_end: Tensor  # [G + 1] cumulated popularity of whole groups, from 0
    activity: Tensor  # [U] cumulated activity
    affinity: float


def _population(
    num_users: int, num_items: int, num_groups: int, affinity: float, generator: Generator
) -> _Population:
    # The items of a group are spread over all ranks of popularity, and no group is empty
    # unless there are more groups than items; tastes go to those that are not.
    group = torch.randperm(num_items, generator=generator) % num_groups
    rank = torch.randperm(num_items, generator=generator)
    popularity = (rank + 1).double() ** -0.8
    place = group.argsort(stable=True)
    mass = popularity[place].cumsum(0)
    count = torch.bincount(group, minlength=num_groups)
    end = torch.cat([mass.new_zeros(1), mass])[torch.cat([count.new_zeros(1), count.cumsum(0)])]
    liked = torch.randint(min(num_groups, num_items), (num_users, 2), generator=generator)
    activity = torch.randn(num_users, generator=generator, dtype=torch.double).exp().cumsum(0)
    return _Population(liked, group, place, mass, end, activity, affinity)


def _keys(population: _Population, num_edges: int, generator: Generator) -> Tensor:
    """Exactly ``num_edges`` ascending keys ``user * num_items + item``."""
    num_users, num_items = population.liked.size(0), population.group.numel()
    least = min(MIN_DEGREE, num_edges // num_users)
    cells = num_users * num_items
    keys = torch.empty(0, dtype=torch.long)
    degree = torch.zeros(num_users, dtype=torch.long)
    rounds = 0
    while keys.numel() < num_edges or int(degree.min()) < least:
        tasteful = rounds < _TASTE_ROUNDS
        owed = torch.repeat_interleave((least - degree).clamp(min=0))
        # A uniform draw hits a free cell with the probability free / cells.
        hit = 0.9 if tasteful else (cells - keys.numel()) / cells
        more = max(0, num_edges - keys.numel() - owed.numel())
        user = torch.cat([owed, _users(population, int(more / hit * 1.1), tasteful, generator)])
        item = _items(population, user, tasteful, generator)
        keys = torch.cat([keys, edge_keys(user, item, num_users, num_items)]).unique()
        degree = torch.bincount(keys.div(num_items, rounding_mode="floor"), minlength=num_users)
        rounds += 1
    return keys[without_surplus(keys.numel(), degree, num_edges, least, generator)]


def _users(population: _Population, count: int, tasteful: bool, generator: Generator) -> Tensor:
    total = population.activity
    if not tasteful:
        return torch.randint(total.numel(), (count,), generator=generator)
    at = torch.rand(count, generator=generator, dtype=torch.double) * total[-1]
    return torch.searchsorted(total, at, right=True).clamp_(max=total.numel() - 1)


def _items(population: _Population, user: Tensor, tasteful: bool, generator: Generator) -> Tensor:
    """Draw an item for each entry of ``user``: by taste and popularity, or uniformly."""
    num_items = population.group.numel()
    if not tasteful:
        return torch.randint(num_items, (user.numel(),), generator=generator)
    kind = torch.rand(user.numel(), generator=generator)
    liked = population.liked[user, (kind < population.affinity / 3).long()]
    follows = kind < population.affinity
    begin = torch.where(follows, population.group_end[liked], 0.0)
    end = torch.where(follows, population.group_end[liked + 1], population.mass[-1])
    at = begin + torch.rand(user.numel(), generator=generator, dtype=torch.double) * (end - begin)
    place = torch.searchsorted(population.mass, at, right=True).clamp_(max=num_items - 1)
    return population.item_of_place[place]


def without_surplus(
    num_keys: int, degree: Tensor, num_edges: int, least: int, generator: Generator
) -> Tensor:
    r"""Which of too many edges stay, at random, the first ``least`` of each user in any case.

    Args:
        num_keys: Number of edges, sorted by user.
        degree: How many of them each user has, int64 ``[U]``.
        num_edges: Number of edges that stay.
        least: Edges that every user keeps.
        generator: Of the draw.

    Returns:
        bool ``[num_keys]``.
    """
    surplus = num_keys - num_edges
    start = degree.cumsum(0) - degree
    position = torch.arange(num_keys) - start.repeat_interleave(degree)
    spare = (position >= least).nonzero().view(-1)
    kept = torch.ones(num_keys, dtype=torch.bool)
    kept[spare[torch.randperm(spare.numel(), generator=generator)[:surplus]]] = False
    return kept


def _times(user: Tensor, num_users: int, generator: Generator) -> Tensor:
    joined = torch.rand(num_users, generator=generator, dtype=torch.double)[user] / 2
    passed = torch.rand(user.numel(), generator=generator, dtype=torch.double) * (1 - joined)
    return START + ((joined + passed) * SPAN).long()
