"""How many users an A/B test needs, what it can find, and how often it is wrong."""

from __future__ import annotations

from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from pyg_kd.checks import require_at_least, require_count, require_positive
from pyg_kd.study.simulation.ab import ab_tests, check_share
from pyg_kd.study.simulation.outcomes import Floats, Metric, Ratio

#: Numbers in a block of simulated experiments.
ENTRIES = 2**22


class Rate(NamedTuple):
    """How often simulated experiments found a difference.

    Args:
        value: The share of runs that did.
        interval: Its 95 % confidence interval, Clopper and Pearson's.
        runs: Number of runs.
    """

    value: float
    interval: tuple[float, float]
    runs: int


def sample_size(
    effect: float,
    deviation: float | tuple[float, float],
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    share: float = 0.5,
) -> int:
    r"""Users that both arms need together to find a difference.

    .. math::
        n = \frac{(z_{1 - \alpha / 2} + z_{power})^2}{\delta^2}
        \left( \frac{\sigma_0^2}{1 - s} + \frac{\sigma_1^2}{s} \right)

    Args:
        effect: The difference :math:`\delta` of the means.
        deviation: Standard deviation over users, or that of the control and of the treatment.
        power: The chance of finding it.
        alpha: The chance of finding one where there is none, two-sided.
        share: The share :math:`s` of users in the treatment.

    Raises:
        ValueError: If ``effect`` is 0, or an option is out of range.

    Example:
        >>> sample_size(effect=0.1, deviation=1.0)
        3140
    """
    require_positive(effect=abs(effect))
    check_share(power=power, alpha=alpha, share=share)
    variance = _variance(deviation, share)
    return ceil(_quantiles(alpha, power) ** 2 * variance / effect**2)


def minimum_detectable_effect(
    users: int,
    deviation: float | tuple[float, float],
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    share: float = 0.5,
) -> float:
    r"""The smallest difference that so many users find, the inverse of :func:`sample_size`.

    Args:
        users: In both arms together.
        deviation: As of :func:`sample_size`.
        power: The chance of finding it.
        alpha: The chance of finding one where there is none, two-sided.
        share: The share of users in the treatment.

    Example:
        >>> round(minimum_detectable_effect(3_140, deviation=1.0), 4)
        0.1
    """
    require_count(2, users=users)
    check_share(power=power, alpha=alpha, share=share)
    return float(_quantiles(alpha, power) * sqrt(_variance(deviation, share) / users))


def power_of(
    users: int,
    effect: float,
    deviation: float | tuple[float, float],
    *,
    alpha: float = 0.05,
    share: float = 0.5,
) -> float:
    r"""The chance that so many users find a difference, to either side.

    .. math::
        \Phi\left(\frac{|\delta|}{se} - z_{1 - \alpha / 2}\right) +
        \Phi\left(-\frac{|\delta|}{se} - z_{1 - \alpha / 2}\right)

    Args:
        users: In both arms together.
        effect: The difference of the means; 0 gives ``alpha``.
        deviation: As of :func:`sample_size`.
        alpha: The chance of finding one where there is none, two-sided.
        share: The share of users in the treatment.

    Example:
        >>> round(power_of(3_140, effect=0.1, deviation=1.0), 3), power_of(9, 0.0, 1.0)
        (0.8, 0.05)
    """
    from scipy.stats import norm

    require_count(2, users=users)
    check_share(alpha=alpha, share=share)
    ratio = abs(effect) / sqrt(_variance(deviation, share) / users)
    bound = norm.ppf(1 - alpha / 2)
    return float(round(norm.cdf(ratio - bound) + norm.cdf(-ratio - bound), 15))


def simulated_power(
    control: Metric,
    treatment: Metric,
    users: int,
    *,
    covariate: tuple[Metric, Metric] | None = None,
    runs: int = 1_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> Rate:
    r"""How often experiments with so many users would find the difference between two populations.

    Each run draws half of its users from either population, with replacement, and tests them.
    What the closed form takes for granted, normal means, is not taken here.

    Args:
        control: The metric of the users of a population under the control, or a :class:`Ratio`.
        treatment: The same under the treatment.
        users: In both arms together.
        covariate: As of :func:`~pyg_kd.study.simulation.ab_test`.
        runs: Number of experiments.
        alpha: Below which p-value a run has found a difference.
        seed: Seed of all draws.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> alone, better = rng.poisson(2.0, 5_000), rng.poisson(2.2, 5_000)
        >>> simulated_power(alone, better, users=1_000, runs=200).value > 0.4
        True
    """
    require_count(4, users=users)
    require_count(runs=runs)
    check_share(alpha=alpha)
    rng, size, p = np.random.default_rng(seed), users // 2, []
    arms = (control, treatment)
    for count in blocks(runs, users):
        rows = [rng.integers(len(_first(arm)), size=(count, size)) for arm in arms]
        drawn = [take(arm, row) for arm, row in zip(arms, rows, strict=True)]
        before = None
        if covariate is not None:
            before = take(covariate[0], rows[0]), take(covariate[1], rows[1])
        p.append(ab_tests(*drawn, covariate=before).p_value)
    return rate_of(int((np.concatenate(p) < alpha).sum()), runs)


def aa_check(
    values: Metric,
    *,
    covariate: Metric | None = None,
    runs: int = 1_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> Rate:
    r"""How often users split at random, and treated alike, differ by the test.

    It should be ``alpha``. If it is not, the metric, the randomisation or the test is at fault, and
    no A/B test of the metric can be trusted.

    Args:
        values: The metric of each user ``[n]``, or a :class:`Ratio`.
        covariate: A metric of the same users from before.
        runs: Number of random splits into halves.
        alpha: Below which p-value a split has found a difference.
        seed: Seed of the splits.

    Raises:
        ValueError: If there are fewer than four users, or an option is out of range.

    Example:
        >>> rate = aa_check(np.random.default_rng(0).poisson(2.0, 400))
        >>> rate.interval[0] < 0.05 < rate.interval[1]
        True
    """
    size = len(_first(values))
    require_count(4, users=size)
    require_count(runs=runs)
    check_share(alpha=alpha)
    rng, p = np.random.default_rng(seed), []
    for count in blocks(runs, size):
        order = _shuffles(rng, count, size)
        halves = order[:, : size // 2], order[:, size // 2 :]
        before = None
        if covariate is not None:
            before = take(covariate, halves[0]), take(covariate, halves[1])
        p.append(ab_tests(*(take(values, half) for half in halves), covariate=before).p_value)
    return rate_of(int((np.concatenate(p) < alpha).sum()), runs)


def rate_of(found: int, runs: int) -> Rate:
    """A share of runs with its interval."""
    from scipy.stats import binomtest

    low, high = binomtest(found, runs).proportion_ci(0.95, "exact")
    return Rate(found / runs, (float(low), float(high)), runs)


def blocks(runs: int, width: int) -> list[int]:
    """Runs to do at once, so that no array gets large."""
    most = max(ENTRIES // width, 1)
    return [most] * (runs // most) + [runs % most] * (runs % most > 0)


def take(metric: Metric, rows: np.ndarray) -> Metric:
    """A metric of some users."""
    if isinstance(metric, Ratio):
        return Ratio(*(np.asarray(part)[rows] for part in metric))
    return np.asarray(metric)[rows]


def _shuffles(rng: Generator, count: int, size: int) -> np.ndarray:
    return rng.permuted(np.broadcast_to(np.arange(size), (count, size)), axis=1)


def _first(metric: Metric) -> Floats:
    return np.asarray(metric.numerator if isinstance(metric, Ratio) else metric)


def _variance(deviation: float | tuple[float, float], share: float) -> float:
    pair = deviation if isinstance(deviation, tuple) else (deviation, deviation)
    for value in pair:
        require_at_least(0, deviation=value)
    return pair[0] ** 2 / (1 - share) + pair[1] ** 2 / share


def _quantiles(alpha: float, power: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(1 - alpha / 2) + norm.ppf(power))
