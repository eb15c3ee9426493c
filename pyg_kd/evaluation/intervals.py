"""Intervals of a mean, of a paired difference, and of the ratio of two means."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Interval = tuple[float, float]


def t_interval(values: Values, level: float = 0.95) -> Interval | None:
    r"""Student's interval :math:`\bar x \pm t_{n-1} \, s / \sqrt n`; ``None`` below two values.

    Example:
        >>> [round(end, 3) for end in t_interval(np.array([1.0, 2.0, 3.0]))]
        [-0.484, 4.484]
    """
    if len(values) < 2:
        return None
    middle = float(values.mean())
    half = _quantile(len(values), level) * float(values.std(ddof=1)) / sqrt(len(values))
    return middle - half, middle + half


def fieller_interval(above: Values, below: Values, level: float = 0.95) -> Interval | None:
    r"""Fieller's interval of the ratio of two means of pairs, :math:`\bar x / \bar y`.

    It holds every :math:`r` for which the mean of :math:`x - r y` may be zero:

    .. math::
        (\bar x - r \bar y)^2 \leq t_{n-1}^2 \,
        \frac{s_x^2 - 2 r s_{xy} + r^2 s_y^2}{n}

    as in `"Some Problems in Interval Estimation"
    <https://doi.org/10.1111/j.2517-6161.1954.tb00159.x>`_. Where :math:`\bar y` may itself be
    zero, no ratio is excluded and both ends are infinite.

    Args:
        above: Values ``[n]``.
        below: Values of the same users, ``[n]``.
        level: Confidence.

    Returns:
        The two ends; ``None`` below two values.

    Example:
        >>> teacher = np.array([0.4, 0.5, 0.6, 0.5])
        >>> low, high = fieller_interval(np.array([0.3, 0.5, 0.5, 0.4]), teacher)
        >>> round(low, 2), round(high, 2)
        (0.67, 1.01)
    """
    n = len(above)
    if n < 2:
        return None
    spread = np.cov(above, below) * _quantile(n, level) ** 2 / n
    x, y = float(above.mean()), float(below.mean())
    # a r^2 - 2 b r + c <= 0
    a, b, c = y * y - spread[1, 1], x * y - spread[0, 1], x * x - spread[0, 0]
    if a <= 0:
        return -inf, inf
    root = sqrt(max(b * b - a * c, 0.0))
    return float((b - root) / a), float((b + root) / a)


def _quantile(n: int, level: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, n - 1))
