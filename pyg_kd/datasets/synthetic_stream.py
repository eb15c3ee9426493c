"""Interactions over time, drawn from tastes and popularity that change."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kd.checks import require_at_least, require_count
from pyg_kd.datasets.graph import edge_keys, graph_from_keys
from pyg_kd.datasets.stream_tastes import Truth, truth_of
from pyg_kd.datasets.synthetic import (
    MIN_DEGREE,
    SPAN,
    START,
    check_population,
    without_surplus,
)
from pyg_kd.typing import INTERACTS, ITEM, USER

#: Draws beyond this round ignore tastes: they only fill graphs that are almost complete.
_TASTE_ROUNDS = 12


class SyntheticStream(InMemoryDataset):
    r"""A seeded data set whose tastes and popularity change over time.

    Two years are cut into ``num_periods`` equal periods. As in
    :class:`~pyg_kd.datasets.SyntheticInteractions` every item belongs to one group, every user
    likes two groups, joins at a random time in the first part of the two years, the ``joining``,
    and acts at random times after that. At the border
    of two periods each liked group of each user is drawn anew with probability
    :math:`1 - e^{-\delta / P}`, with :math:`\delta` the ``drift`` and :math:`P` the number of
    periods: over the two years it is :math:`\delta` times in the mean. The popularity of the item
    with rank :math:`r` is, in period :math:`p`,

    .. math::
        \pi_{ip} = r_i^{-0.8} \exp\!\left(s \cos 2 \pi \left(\frac{p + 1/2}{P}
        - c_i\right)\right)

    with the ``swing`` :math:`s` and a random time :math:`c_i` of its peak. An interaction is with
    an item of the first liked group with probability :math:`\frac{2}{3} a`, of the second with
    :math:`\frac{1}{3} a`, and with any item otherwise, :math:`a` being the ``affinity``; in each
    case items are drawn by the popularity of the period. With ``drift=0`` and ``swing=0`` nothing
    changes.

    The graph has exactly ``num_edges`` different edges, sorted by user, then item, with ``time``,
    int64 ``[E]``, in seconds; of a pair that is drawn twice the earlier draw counts. Every user
    has at least ``min(3, num_edges // num_users)`` edges. What was true is exposed:

    * ``data["user"].group_at``, int64 ``[U, P, 2]``, the liked groups in every period, and
      ``data["user"].group``, ``[U, 2]``, those of the last one,
    * ``data["item"].group``, int64 ``[I]``, and ``data["item"].popularity_at``, float64
      ``[I, P]``,
    * ``data.period_start``, int64 ``[P + 1]``, when periods start and the last one ends, and
      ``data.affinity``.

    :func:`~pyg_kd.datasets.taste_probabilities` makes probabilities of them. The
    same options give the same graph. Memory is linear in the edges, and in the users and items
    times the periods.

    Args:
        root: Not needed, as nothing is read or written.
        num_users: Number of users.
        num_items: Number of items.
        num_edges: Number of edges, from ``num_users`` to ``num_users * num_items``.
        seed: Seed of all draws.
        num_groups: Number of groups.
        affinity: How much of a user's activity follows taste, from 0 to 1.
        drift: How often a liked group is drawn anew in two years.
        swing: How far the logarithm of an item's popularity rises and falls.
        num_periods: Number of periods.
        joining: The part of the two years in which users join, from 0 to 1, 1 excluded.
        transform: Applied to the graph on every access.
        pre_transform: Applied to the graph once.

    Raises:
        ValueError: If an option is out of range or ``num_edges`` cannot fit.

    Example:
        >>> from pyg_kd.datasets import SyntheticStream
        >>> data = SyntheticStream(num_users=50, num_items=40, num_edges=300, drift=2.0)[0]
        >>> data["user", "item"].edge_index.shape, data["user"].group_at.shape
        (torch.Size([2, 300]), torch.Size([50, 24, 2]))
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
        drift: float = 1.0,
        swing: float = 1.0,
        num_periods: int = 24,
        joining: float = 0.5,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        require_count(num_users=num_users, num_items=num_items, num_groups=num_groups)
        require_count(num_periods=num_periods)
        require_at_least(0, drift=drift, swing=swing)
        check_population(num_users, num_items, num_edges, affinity)
        if not 0 <= joining < 1:
            raise ValueError(f"'joining' must lie in 0..1, 1 excluded (got {joining})")
        super().__init__(None if root is None else str(root), transform, pre_transform)
        generator = Generator().manual_seed(seed)
        sizes = (num_users, num_items, min(num_groups, num_items))
        truth = truth_of(*sizes, affinity, drift, swing, num_periods, joining, generator)
        data = _graph(truth, num_edges, generator)
        if pre_transform is not None:
            data = pre_transform(data)
        self.data, self.slices = self.collate([data])


def _graph(truth: Truth, num_edges: int, generator: Generator) -> HeteroData:
    num_users, num_items = len(truth.joined), len(truth.group)
    key, moment = _edges(truth, num_edges, generator)
    data = graph_from_keys(key, num_users, num_items)
    periods = truth.mass.size(0)
    data[USER].group_at, data[USER].group = truth.liked, truth.liked[:, -1].clone()
    data[ITEM].group, data[ITEM].popularity_at = truth.group, truth.popularity
    data[INTERACTS].time = START + (moment * SPAN).long()
    border = torch.arange(periods + 1, dtype=torch.double) / periods
    # The first second of a period, as times are rounded down.
    data.period_start = START + (border * SPAN).ceil().long()
    data.affinity = truth.affinity
    return data


def _edges(truth: Truth, num_edges: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Exactly ``num_edges`` ascending keys ``user * num_items + item``, and times in 0..1."""
    num_users, num_items = len(truth.joined), len(truth.group)
    least, cells = min(MIN_DEGREE, num_edges // num_users), num_users * num_items
    key = torch.empty(0, dtype=torch.long)
    moment = torch.empty(0, dtype=torch.double)
    degree = torch.zeros(num_users, dtype=torch.long)
    rounds = 0
    while key.numel() < num_edges or int(degree.min()) < least:
        tasteful = rounds < _TASTE_ROUNDS
        owed = torch.repeat_interleave((least - degree).clamp(min=0))
        # A uniform draw hits a free cell with the probability free / cells.
        hit = 0.9 if tasteful else (cells - key.numel()) / cells
        more = max(0, num_edges - key.numel() - owed.numel())
        user = torch.cat([owed, _users(truth, int(more / hit * 1.1), tasteful, generator)])
        when = _moments(truth, user, generator)
        item = _items(truth, user, when, tasteful, generator)
        drawn = edge_keys(user, item, num_users, num_items)
        key, moment = _earliest(torch.cat([key, drawn]), torch.cat([moment, when]))
        degree = torch.bincount(key.div(num_items, rounding_mode="floor"), minlength=num_users)
        rounds += 1
    kept = without_surplus(len(key), degree, num_edges, least, generator)
    return key[kept], moment[kept]


def _earliest(key: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct keys, ascending, each with its earliest time."""
    order = moment.argsort(stable=True)
    order = order[key[order].argsort(stable=True)]
    key, moment = key[order], moment[order]
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    return key[first], moment[first]


def _users(truth: Truth, count: int, tasteful: bool, generator: Generator) -> Tensor:
    total = truth.activity
    if not tasteful:
        return torch.randint(len(total), (count,), generator=generator)
    at = torch.rand(count, generator=generator, dtype=torch.double) * total[-1]
    return torch.searchsorted(total, at, right=True).clamp_(max=len(total) - 1)


def _moments(truth: Truth, user: Tensor, generator: Generator) -> Tensor:
    """A time for each entry of ``user``, after that user has joined, in 0..1."""
    joined = truth.joined[user]
    passed = torch.rand(len(user), generator=generator, dtype=torch.double)
    return joined + passed * (1 - joined)


def _items(
    truth: Truth, user: Tensor, moment: Tensor, tasteful: bool, generator: Generator
) -> Tensor:
    """An item for each entry of ``user``: by taste and popularity at a time, or uniformly."""
    num_items, periods = len(truth.group), truth.mass.size(0)
    if not tasteful:
        return torch.randint(num_items, (len(user),), generator=generator)
    period = (moment * periods).long().clamp_(max=periods - 1)
    kind = torch.rand(len(user), generator=generator)
    liked = truth.liked[user, period, (kind < truth.affinity / 3).long()]
    follows = kind < truth.affinity
    begin = torch.where(follows, truth.group_end[period, liked], 0.0)
    end = torch.where(follows, truth.group_end[period, liked + 1], truth.mass[period, -1])
    at = begin + torch.rand(len(user), generator=generator, dtype=torch.double) * (end - begin)
    place = torch.empty_like(user)
    order = period.argsort(stable=True)
    parts = order.split(torch.bincount(period, minlength=periods).tolist())
    for mass, part in zip(truth.mass, parts, strict=True):
        place[part] = torch.searchsorted(mass, at[part], right=True)
    return truth.item_of_place[place.clamp_(max=num_items - 1)]
