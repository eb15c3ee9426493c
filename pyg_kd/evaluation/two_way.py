r"""A bootstrap over users and over seeds, which are crossed.

Of :math:`k` seeds and :math:`n` users, the value of user :math:`u` in run :math:`s` is taken as

.. math::
    x_{su} = \mu + a_u + b_s + e_{su},

so that the mean of all has the variance
:math:`\sigma_a^2 / n + \sigma_b^2 / k + \sigma_e^2 / kn`. Resampling users and runs plainly counts
the last term three times, and a handful of runs, resampled, vary too little by a factor
:math:`(k - 1) / k` and have no tails. Hence:

- users are drawn with replacement, and their mean deviations are shrunk by what the noise
  :math:`e` adds to them, as in the reflated bootstrap of
  `"A novel bootstrap procedure for assessing the relationship between class size and achievement"
  <https://doi.org/10.1111/1467-9876.00415>`_, but never below what makes the interval as wide as
  one over users alone;
- runs are weighted rather than drawn: by normal weights that add up to one, over the root of a
  chi-squared variable of :math:`k - 1` degrees of freedom, as in the exchangeable bootstrap of
  `"Exchangeably weighted bootstraps of the general empirical process"
  <https://doi.org/10.1214/aop/1176989011>`_. With normal :math:`b_s` and nothing else that varies,
  this is the interval of Student's t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pyg_kd.evaluation.run_values import Array

#: Most entries of an array of weights.
BLOCK = 4_000_000


class Draws(NamedTuple):
    r"""What is random in a bootstrap, shared by all that is compared.

    Args:
        users: Deviations of the mean over drawn users from that over all, float64
            ``[num_replicates, m]`` for ``m`` columns.
        seed: Seed of the weights of runs.
    """

    users: Array
    seed: int


def draw_users(columns: Array, num_replicates: int, seed: int) -> Draws:
    r"""Resample users, the same for all columns.

    Weights are made in blocks of at most four million, so that memory does not grow with users x
    replicates; each replicate takes ``O(n)``.

    Args:
        columns: A value of every user in each column, float64 ``[n, m]``.
        num_replicates: How often to resample.
        seed: Of the generator.

    Example:
        >>> draw_users(np.ones((4, 2)), 3, seed=0).users.shape
        (3, 2)
    """
    generator = np.random.default_rng(seed)
    num_users = len(columns)
    centred = columns - columns.mean(0)
    found = np.empty((num_replicates, columns.shape[1]))
    size = max(1, BLOCK // num_users)
    for start in range(0, num_replicates, size):
        stop = min(start + size, num_replicates)
        found[start:stop] = _weights(generator, stop - start, num_users) @ centred
    # Drawn means vary by (n - 1) / n of the unbiased variance.
    return Draws(found / np.sqrt(num_users * (num_users - 1.0)), seed)


def _weights(generator: Generator, count: int, num_users: int) -> Array:
    """How often each user is drawn, multinomial, ``[count, num_users]``."""
    drawn: NDArray[np.int64] = generator.integers(num_users, size=(count, num_users))
    drawn += num_users * np.arange(count)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=count * num_users)
    return counts.reshape(count, num_users).astype(np.float64)


def draw_runs(num_runs: int, num_replicates: int, seed: int) -> Array:
    r"""Deviations of the weights of runs from equal ones.

    Args:
        num_runs: How many runs there are; of a single one nothing varies.
        num_replicates: How many draws.
        seed: Of the generator.

    Returns:
        Weights that add up to 0, float64 ``[num_replicates, num_runs]``.
    """
    if num_runs == 1:
        return np.zeros((num_replicates, 1))
    generator = np.random.default_rng([seed, num_runs])
    normal = generator.standard_normal((num_replicates, num_runs))
    normal -= normal.mean(1, keepdims=True)
    freedom = num_runs - 1
    scale = np.sqrt(generator.chisquare(freedom, (num_replicates, 1)) / freedom)
    weights: Array = normal / (scale * np.sqrt(num_runs * freedom))
    return weights


class Components(NamedTuple):
    r"""Estimated variances of ``m`` quantities, as matrices ``[m, m]``.

    Args:
        users: That of :math:`a_u`, without negative eigenvalues.
        means: That of a user's mean over runs, in which the noise is.
        runs: That of a run's mean, noise included; zero with a single run.
        noise: That of :math:`e_{su}`; zero with a single run.
    """

    users: Array
    means: Array
    runs: Array
    noise: Array


def components(values: Array) -> Components:
    r"""Variance components by the analysis of variance.

    Args:
        values: float64 ``[k, n, m]``.
    """
    num_runs, num_users, width = values.shape
    by_user, by_run = values.mean(0), values.mean(1)
    centre = by_run.mean(0)
    deviation = by_user - centre
    between = deviation.T @ deviation / (num_users - 1)
    if num_runs == 1:
        return Components(between, between, *np.zeros((2, width, width)))
    noise = np.zeros((width, width))
    for run, mean in zip(values, by_run, strict=True):  # a handful: no [k, n, m] in between
        rest = run - mean - deviation
        noise += rest.T @ rest
    noise /= (num_runs - 1) * (num_users - 1)
    gaps = by_run - centre
    runs = gaps.T @ gaps / (num_runs - 1)
    return Components(_nonnegative(between - noise / num_runs), between, runs, noise)


def replicates(values: Array, draws: Draws, columns: slice | list[int] | None = None) -> Array:
    r"""Means of ``m`` quantities in every replicate.

    Args:
        values: float64 ``[k, n, m]``.
        draws: Users, drawn for the means ``values.mean(0)`` among other columns.
        columns: Which columns of ``draws`` are those of ``values``; all by default.

    Returns:
        Their joint replicates, float64 ``[num_replicates, m]``.
    """
    found = components(values)
    by_run = values.mean(1)
    users = draws.users if columns is None else draws.users[:, columns]
    num_runs, num_users = values.shape[:2]
    # Noise that the runs, by luck, don't show: no interval is narrower than one over users.
    hidden = _nonnegative((found.noise - num_users * found.runs) / num_runs)
    shrunk = users @ _matched(found.means, found.users + hidden)
    weights = draw_runs(num_runs, len(users), draws.seed)
    means: Array = by_run.mean(0) + shrunk + weights @ by_run
    return means


def _matched(have: Array, want: Array) -> Array:
    r"""A matrix ``T`` with ``T' have T = want``: what has the one covariance gets the other."""
    value, vector = np.linalg.eigh(have)
    usable = value > 1e-12 * max(value.max(), 0.0)
    inverse = np.where(usable, 1 / np.sqrt(np.where(usable, value, 1.0)), 0.0)
    goal, axes = np.linalg.eigh(want)
    root = (axes * np.sqrt(np.maximum(goal, 0.0))) @ axes.T
    matched: Array = (vector * inverse) @ vector.T @ root
    return matched


def _nonnegative(matrix: Array) -> Array:
    """The nearest matrix without negative eigenvalues."""
    value, vector = np.linalg.eigh(matrix)
    nearest: Array = (vector * np.maximum(value, 0.0)) @ vector.T
    return nearest


def percentiles(found: Array, level: float = 0.95) -> tuple[float, float]:
    """The central interval of replicates, ``[num_replicates]``."""
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def two_sided(found: Array) -> float:
    """The p-value of zero under replicates: twice the share on its far side, and never 0."""
    below, above = int((found <= 0).sum()), int((found >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(found) + 1))
