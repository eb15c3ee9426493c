"""A mean over users and seeds, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pyg_kd.checks import require_count
from pyg_kd.evaluation.run_values import Seeds, require_seeds, stack_runs
from pyg_kd.evaluation.two_way import draw_users, percentiles, replicates


class MeanInterval(NamedTuple):
    r"""A mean over users and seeds.

    Args:
        mean: The mean.
        deviation: Standard deviation of the means of seeds; ``None`` with a single one.
        interval: 95 % confidence interval of the mean for other users and, with two seeds or more,
            other seeds.
        num_seeds: How many seeds.
    """

    mean: float
    deviation: float | None
    interval: tuple[float, float]
    num_seeds: int


def mean_intervals(
    methods: Mapping[str, Seeds],
    metric: str | None = None,
    *,
    num_replicates: int = 10_000,
    seed: int = 0,
) -> dict[str, MeanInterval]:
    r"""Means of methods with intervals, by the bootstrap over users and seeds.

    Two intervals that overlap say nothing about a difference, whose users are the same on both
    sides: :func:`compare_runs` tests it.

    Args:
        methods: A metric of every user by seed, by name of the method.
        metric: Which metric, where several were evaluated.
        num_replicates: Replicates of the bootstrap.
        seed: Of its draws, which all methods share.

    Raises:
        TypeError: If values are something else.
        ValueError: If a method has no run, users or shapes differ, or a value is not finite.

    Example:
        >>> import torch
        >>> found = mean_intervals({"student": {0: torch.tensor([0.0, 1.0] * 50)}})["student"]
        >>> found.mean, [round(end, 1) for end in found.interval]
        (0.5, [0.4, 0.6])
    """
    require_count(num_replicates=num_replicates)
    first, found = None, {}
    for name, runs in methods.items():
        require_seeds(name, runs)
        first = stack_runs(name, [runs[s] for s in sorted(runs)], metric, first)
        found[name] = first.values
    if not found:
        return {}
    columns = np.stack([values.mean(0) for values in found.values()], axis=1)
    draws = draw_users(columns, num_replicates, seed)
    means = {}
    for place, (name, values) in enumerate(found.items()):
        by_run = values.mean(1)
        interval = percentiles(replicates(values[:, :, None], draws, [place])[:, 0])
        spread = float(by_run.std(ddof=1)) if len(by_run) > 1 else None
        means[name] = MeanInterval(float(by_run.mean()), spread, interval, len(by_run))
    return means
