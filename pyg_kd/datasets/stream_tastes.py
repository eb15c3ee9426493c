"""Tastes and popularity that change from one period to the next."""

from __future__ import annotations

from math import pi
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import as_ids
from pyg_kd.typing import ITEM, USER


class Truth(NamedTuple):
    """What a stream is drawn from."""

    liked: Tensor  # [U, P, 2] groups
    group: Tensor  # [I]
    popularity: Tensor  # [I, P]
    item_of_place: Tensor  # [I] items, ordered by group
    mass: Tensor  # [P, I] cumulated popularity in that order
    group_end: Tensor  # [P, G + 1] cumulated popularity of whole groups, from 0
    joined: Tensor  # [U] from 0 to 1
    activity: Tensor  # [U] cumulated activity
    affinity: float


def truth_of(
    num_users: int,
    num_items: int,
    num_groups: int,
    affinity: float,
    drift: float,
    swing: float,
    periods: int,
    joining: float,
    generator: Generator,
) -> Truth:
    r"""Draw what a stream is drawn from.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_groups: Number of groups, none of them empty.
        affinity: How much follows taste.
        drift: How often a liked group is drawn anew in all periods together.
        swing: How far the logarithm of popularity rises and falls.
        periods: Number of periods.
        joining: The part of the time in which users join.
        generator: Of all draws.
    """
    group = torch.randperm(num_items, generator=generator) % num_groups
    rank = torch.randperm(num_items, generator=generator)
    peak = torch.rand(num_items, 1, generator=generator, dtype=torch.double)
    middle = (torch.arange(periods) + 0.5) / periods
    season = (swing * (2 * pi * (middle - peak)).cos()).exp()
    popularity = (rank + 1).double().pow(-0.8).unsqueeze(1) * season
    place = group.argsort(stable=True)
    mass = popularity[place].t().cumsum(1)
    count = torch.bincount(group, minlength=num_groups).cumsum(0)
    end = torch.cat([mass.new_zeros(periods, 1), mass[:, count - 1]], 1)
    joined = torch.rand(num_users, generator=generator, dtype=torch.double) * joining
    activity = torch.randn(num_users, generator=generator, dtype=torch.double).exp().cumsum(0)
    liked = _tastes(num_users, num_groups, drift, periods, generator)
    return Truth(liked, group, popularity, place, mass, end, joined, activity, affinity)


def _tastes(
    num_users: int, num_groups: int, drift: float, periods: int, generator: Generator
) -> Tensor:
    """The liked groups of every user in every period, int64 ``[U, P, 2]``."""
    drawn = torch.randint(num_groups, (num_users, periods, 2), generator=generator)
    anew = (
        torch.rand(num_users, periods, 2, generator=generator)
        < -torch.tensor(-drift / periods).expm1()
    )
    anew[:, 0] = True
    period = torch.arange(periods).view(1, -1, 1)
    last = torch.where(anew, period, 0).cummax(1).values  # the period of the draw that holds
    return drawn.gather(1, last)


def taste_probabilities(data: HeteroData, users: object, period: int) -> Tensor:
    r"""The probability that an interaction of a user in a period is with each item.

    .. math::
        p(i \mid u, p) = \pi_{ip} \left( \frac{2a}{3} \frac{[g_i = g_{u1}]}{\Pi_{g_i p}}
        + \frac{a}{3} \frac{[g_i = g_{u2}]}{\Pi_{g_i p}} + \frac{1 - a}{\Pi_p} \right)

    with :math:`\Pi` the sums of popularity over a group and over all items.

    Args:
        data: A graph of :class:`~pyg_kd.datasets.SyntheticStream`.
        users: Some users, int64 ``[n]``.
        period: The number of the period, from 0.

    Returns:
        float64 ``[n, I]``; rows add up to 1. Ask for few users at once.

    Raises:
        TypeError: If users are not integers.
        ValueError: If a user or the period is out of range, or the graph does not tell tastes.

    Example:
        >>> from pyg_kd.datasets import SyntheticStream, taste_probabilities
        >>> data = SyntheticStream(num_users=20, num_items=30, num_edges=100)[0]
        >>> taste_probabilities(data, [0, 1], period=3).sum(1)
        tensor([1.0000, 1.0000], dtype=torch.float64)
    """
    if "group_at" not in data[USER] or "popularity_at" not in data[ITEM]:
        raise ValueError("'data' must tell its tastes: take a graph of SyntheticStream")
    liked, group = data[USER].group_at, data[ITEM].group
    if not 0 <= period < liked.size(1):
        raise ValueError(f"'period' must lie in 0..{liked.size(1) - 1} (got {period})")
    popularity = data[ITEM].popularity_at[:, period]
    total = popularity.new_zeros(int(group.max()) + 1).index_add_(0, group, popularity)
    rows = liked[as_ids("users", users, len(liked), liked.device), period]
    first, second = (rows[:, side, None] == group for side in (0, 1))
    within = data.affinity / 3 * (2 * first.double() + second.double()) / total[group]
    found: Tensor = popularity * (within + (1 - data.affinity) / popularity.sum())
    return found
