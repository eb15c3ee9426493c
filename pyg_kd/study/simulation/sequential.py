"""Looking at an A/B test before it ends: what it does to false alarms, and bounds that allow it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyg_kd.checks import require_choice, require_count
from pyg_kd.study.simulation.ab import check_share
from pyg_kd.study.simulation.outcomes import Floats

#: Points between two bounds at which the density of what has not stopped is kept.
POINTS = 401


def peeking_error(looks: int, alpha: float = 0.05) -> float:
    r"""The chance of a false alarm for who stops at the first of some looks with ``p < alpha``.

    Looks are at equal steps. Exact for normal means, by the recursion of `"Repeated Significance
    Tests on Accumulating Data" <https://doi.org/10.2307/2343787>`_.

    Args:
        looks: How often, the end included.
        alpha: The level of each look.

    Example:
        >>> [round(peeking_error(looks), 3) for looks in (1, 2, 5, 10)]
        [0.05, 0.083, 0.142, 0.193]
    """
    from scipy.stats import norm

    require_count(looks=looks)
    check_share(alpha=alpha)
    bound = float(norm.ppf(1 - alpha / 2))
    return float(crossing([bound] * looks, np.arange(1, looks + 1) / looks).sum())


def group_sequential_bounds(
    looks: int | Sequence[float], *, alpha: float = 0.05, spending: str = "obrien_fleming"
) -> list[float]:
    r"""Bounds for ``|z|`` at each look that keep false alarms at ``alpha`` over all of them.

    The error is spent as `"Discrete Sequential Boundaries for Clinical Trials"
    <https://doi.org/10.1093/biomet/70.3.659>`_ does, by the share :math:`t` of users seen so far:

    .. math::
        \alpha_{OF}(t) = 4 - 4 \Phi\left( \frac{z_{1 - \alpha / 4}}{\sqrt{t}} \right), \qquad
        \alpha_{P}(t) = \alpha \log(1 + (e - 1)\, t)

    A test stops at the first look whose :math:`|z|`, the difference by its standard error, reaches
    the bound. The interval of :func:`~pyg_kd.study.simulation.ab_test` is then not valid.

    Args:
        looks: How many, at equal steps; or the shares of users seen, ascending and ending at 1.
        alpha: Two-sided.
        spending: ``"obrien_fleming"``, which hardly spends early, or ``"pocock"``.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> [round(bound, 2) for bound in group_sequential_bounds(4)]
        [4.33, 2.96, 2.36, 2.01]
    """
    from scipy.optimize import brentq

    require_choice(("obrien_fleming", "pocock"), spending=spending)
    check_share(alpha=alpha)
    time = _times(looks)
    spent = _spent(time, alpha, spending)
    bounds: list[float] = []
    for place in range(len(time)):
        used, target = sum(crossing(bounds, time[:place])) if place else 0.0, spent[place]

        def excess(bound: float, used: float = used, target: float = target) -> float:
            now = crossing([*bounds, bound], time[: len(bounds) + 1])[-1]
            return float(used + now - target)

        bounds.append(float(brentq(excess, 0.05, 12.0, xtol=1e-9)))
    return bounds


def crossing(bounds: Sequence[float], time: Floats) -> Floats:
    r"""The chance under no effect that ``|z|`` first reaches its bound at each look, ``[looks]``.

    The score :math:`s = z \sqrt{t}` is Brownian motion; the density of scores that have not
    stopped is carried from look to look by Simpson's rule.
    """
    from scipy.stats import norm

    first = norm.sf(bounds[0]) * 2
    found, edge = [first], bounds[0] * np.sqrt(time[0])
    grid, weight = _simpson(edge)
    density = norm.pdf(grid, scale=np.sqrt(time[0]))
    for bound, step, now in zip(bounds[1:], np.diff(time), time[1:], strict=True):
        edge, scale = bound * np.sqrt(now), np.sqrt(step)
        out = norm.sf((edge - grid) / scale) + norm.cdf((-edge - grid) / scale)
        found.append(float((weight * density * out).sum()))
        after, after_weight = _simpson(edge)
        move = norm.pdf((after[:, None] - grid) / scale) / scale
        density, grid, weight = move @ (weight * density), after, after_weight
    return np.array(found)


def _simpson(edge: float) -> tuple[Floats, Floats]:
    grid = np.linspace(-edge, edge, POINTS)
    weight = np.where(np.arange(POINTS) % 2, 4.0, 2.0)
    weight[[0, -1]] = 1
    return grid, weight * (grid[1] - grid[0]) / 3


def _times(looks: int | Sequence[float]) -> Floats:
    if isinstance(looks, Sequence):
        time = np.asarray(looks, np.float64)
        rises = time.ndim == 1 and len(time) and time[0] > 0 and (np.diff(time) > 0).all()
        if not rises or time[-1] != 1:
            raise ValueError(f"'looks' must be shares that rise to 1 (got {list(looks)})")
        return time
    require_count(looks=looks)
    return np.arange(1, looks + 1) / looks


def _spent(time: Floats, alpha: float, spending: str) -> Floats:
    from scipy.stats import norm

    if spending == "pocock":
        return np.asarray(alpha * np.log(1 + (np.e - 1) * time))
    return np.asarray(4 * norm.sf(norm.ppf(1 - alpha / 4) / np.sqrt(time)))
