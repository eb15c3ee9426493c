"""Who takes part in an experiment: visitors drawn from a world, and how often they come."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from pyg_kd.checks import require_at_least, require_count
from pyg_kd.study.simulation.outcomes import Floats
from pyg_kd.study.simulation.world import TasteWorld


class Visitors(NamedTuple):
    """Visitors and their visits.

    Args:
        user: Whose tastes each visitor has, int64 ``[n]``.
        before: Visits before the experiment, int64 ``[n]``.
        during: Visits during it, int64 ``[n]``.
        treated: Who is in the treatment, bool ``[n]``.
    """

    user: Tensor
    before: Tensor
    during: Tensor
    treated: Tensor


def draw_visitors(
    world: TasteWorld, count: int, *, visits: float, generator: Generator
) -> Visitors:
    r"""Draw visitors with the tastes of a world's users.

    Users are drawn with replacement, so that visitors are a sample of a population whose mean is
    that of the world. Each comes :math:`1 + \mathrm{Poisson}(\lambda)` times in either period, with
    a :math:`\lambda` of his own, which follows a gamma distribution of shape 2. Half of them, drawn
    at random, are treated.

    Args:
        world: The world.
        count: Number of visitors, 4 or more.
        visits: Mean visits in a period, 1 or more.
        generator: Of everything random, on the device of the world.

    Raises:
        ValueError: If an option is out of range.
    """
    require_count(4, visitors=count)
    require_at_least(1, visits=visits)
    device = world.device
    user = torch.randint(world.num_users, (count,), generator=generator, device=device)
    clocks = torch.empty((count, 2), dtype=torch.double, device=device)
    rate = clocks.exponential_(generator=generator).mean(1) * (visits - 1)
    before, during = (1 + torch.poisson(rate, generator=generator).long() for _ in range(2))
    order = torch.randperm(count, generator=generator, device=device)
    return Visitors(user, before, during, order < count // 2)


def totals(values: Tensor, visitor: Tensor, count: int) -> Floats:
    """Sums of what was seen on visits, by visitor, float64 ``[count]``."""
    zeros = torch.zeros(count, dtype=torch.double, device=values.device)
    return zeros.index_add(0, visitor, values.double()).numpy(force=True)
