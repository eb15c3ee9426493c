"""How much of the gap between a student alone and its teacher a method closes."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pyg_kd.checks import require_count
from pyg_kd.evaluation.full_ranking import PerUser
from pyg_kd.evaluation.run_values import Array, Runs, Seeds, require_seeds, stack_runs
from pyg_kd.evaluation.two_way import draw_users, percentiles, replicates


class GapClosed(NamedTuple):
    r"""The share of the gap that is closed: 0 is the student alone, 1 the teacher.

    Args:
        value: The share.
        interval: Its 95 % confidence interval; unbounded where the teacher is not clearly better
            than the student alone.
        num_seeds: How many seeds it rests on.
    """

    value: float
    interval: tuple[float, float]
    num_seeds: int


def gap_closed(
    methods: Mapping[str, Seeds],
    alone: Seeds,
    teacher: Seeds | Tensor | PerUser,
    metric: str | None = None,
    *,
    num_replicates: int = 10_000,
    seed: int = 0,
) -> dict[str, GapClosed]:
    r"""The gap that methods close, with intervals over users and seeds.

    .. math::
        \frac{\bar x_\text{student} - \bar x_\text{alone}}
             {\bar x_\text{teacher} - \bar x_\text{alone}}

    The interval holds the shares :math:`r` at which :math:`x_\text{student} - x_\text{alone}
    - r\,(x_\text{teacher} - x_\text{alone})` does not differ from zero at the 5 % level under the
    bootstrap over users and seeds of :func:`compare_runs`: Fieller's set, without normality. While
    the teacher is above the student alone in every replicate, these are the percentiles of the
    replicates' ratios. Where it is below in more than 2.5 % of them, no bounded interval has its
    level, and the interval is the whole line.

    Args:
        methods: A metric of every user by seed, by name of the method.
        alone: The same of the student alone.
        teacher: The same of the teacher; or one run, whose own luck is left out then.
        metric: Which metric, where several were evaluated.
        num_replicates: Replicates of the bootstrap.
        seed: Of its draws, which all methods share.

    Raises:
        TypeError: If values are something else.
        ValueError: If the teacher is not above the student alone, there is no seed that all three
            have, users or shapes differ, or a value is not finite.

    Example:
        >>> import torch
        >>> alone = {seed: torch.rand(50) for seed in range(3)}
        >>> teacher = {seed: values + 0.2 for seed, values in alone.items()}
        >>> student = {seed: values + 0.1 for seed, values in alone.items()}
        >>> round(gap_closed({"student": student}, alone, teacher)["student"].value, 3)
        0.5
    """
    require_count(num_replicates=num_replicates)
    found = {name: _gaps(name, runs, alone, teacher, metric) for name, runs in methods.items()}
    if not found:
        return {}
    columns = np.concatenate([gaps.mean(0) for gaps in found.values()], axis=1)
    draws = draw_users(columns, num_replicates, seed)
    closed = {}
    for place, (name, gaps) in enumerate(found.items()):
        own, whole = gaps.mean((0, 1))
        means = replicates(gaps, draws, [2 * place, 2 * place + 1])
        closed[name] = GapClosed(float(own / whole), ratio_percentiles(means), len(gaps))
    return closed


def ratio_percentiles(means: Array, level: float = 0.95) -> tuple[float, float]:
    r"""Fieller's set of a ratio under replicates of its numerator and its denominator.

    Args:
        means: Replicates, float64 ``[num_replicates, 2]``.
        level: Of confidence.

    Returns:
        Its ends; infinite ones if the denominator is not clearly positive.

    Example:
        >>> ratio_percentiles(np.array([[1.0, 2.0], [1.0, 2.0]]))
        (0.5, 0.5)
    """
    top, bottom = means.T
    negative = bottom <= 0
    if negative.mean() > (1 - level) / 2:
        return -inf, inf
    if not negative.any():
        return percentiles(top / bottom, level)
    # N - r T <= 0 is N / T <= r where T > 0, and N / T >= r where T < 0: the share of replicates
    # that satisfy it, as r grows, gains those of the first kind and loses those of the second.
    ratio = np.where(bottom == 0, np.sign(top) * inf, top / np.where(bottom == 0, 1.0, bottom))
    order = np.argsort(ratio)
    steps = np.where(negative[order], -1, 1)
    share = (negative.sum() + np.cumsum(steps)) / len(means)
    inside = np.flatnonzero((share > (1 - level) / 2) & (share < (1 + level) / 2))
    return float(ratio[order][inside[0]]), float(ratio[order][min(inside[-1] + 1, len(means) - 1)])


def _gaps(
    name: str,
    runs: Seeds,
    alone: Seeds,
    teacher: Seeds | Tensor | PerUser,
    metric: str | None,
) -> Array:
    """What a method and what the teacher add to the student alone, ``[num_seeds, n, 2]``."""
    require_seeds(name, runs)
    require_seeds("alone", alone)
    if not isinstance(teacher, (Tensor, PerUser)):
        require_seeds("teacher", teacher)
    common = runs.keys() & alone.keys()
    common &= teacher.keys() if isinstance(teacher, Mapping) else common
    if not common:
        raise ValueError(f"{name!r}, 'alone' and 'teacher' must share a seed (got {sorted(runs)})")
    seeds = sorted(common)
    base: Runs = stack_runs("alone", [alone[s] for s in seeds], metric)
    own = stack_runs(name, [runs[s] for s in seeds], metric, base).values
    above = [teacher[s] for s in seeds] if isinstance(teacher, Mapping) else teacher
    best = np.broadcast_to(stack_runs("teacher", above, metric, base).values, own.shape)
    if best.mean() <= base.values.mean():
        raise ValueError(
            "'teacher' must be above the student alone, else there is no gap "
            f"(got {best.mean():.4g} and {base.values.mean():.4g})"
        )
    return np.stack([own - base.values, best - base.values], axis=2)
