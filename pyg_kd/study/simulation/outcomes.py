"""What is measured of each user in an experiment: a value, or a ratio of two."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


class Ratio(NamedTuple):
    r"""A metric that is a ratio of sums over users, such as clicks per impression.

    Users are randomised, not impressions: those of one user are alike, and a test that takes them
    for independent sees differences where there are none.

    Args:
        numerator: Of each user, such as clicks ``[n]``.
        denominator: Of each user, such as impressions ``[n]``.
    """

    numerator: Any
    denominator: Any


#: A value of every user ``[n]``, or a :class:`Ratio`.
Metric = Any


class Arm(NamedTuple):
    """An arm of an experiment: its estimate, and each user's part in how far it is off.

    Args:
        value: The mean, or the ratio of the sums, ``[...]``.
        spread: Values with mean 0 whose mean square over ``n`` is the variance of ``value``, and
            which are the metric less its mean where the metric is no ratio, ``[..., n]``.
    """

    value: Floats
    spread: Floats


def arm(name: str, metric: Metric) -> Arm:
    r"""The estimate of an arm, by the delta method where it is a ratio.

    Of a ratio :math:`R = \bar N / \bar D` the spread of a user is
    :math:`(N_i - R D_i) / \bar D`, as in `"Applying the Delta Method in Metric Analytics"
    <https://arxiv.org/abs/1803.06336>`_.

    Args:
        name: What errors call the metric.
        metric: Values or a ratio, ``[..., n]``; leading axes are experiments apart.

    Raises:
        TypeError: If values are no numbers.
        ValueError: If there are fewer than two users, a value is not finite, or denominators
            are negative or all 0.
    """
    if not isinstance(metric, Ratio):
        values = values_of(name, metric)
        mean = values.mean(-1)
        return Arm(mean, values - mean[..., None])
    top, bottom = (values_of(name, part) for part in metric)
    if top.shape != bottom.shape:
        raise ValueError(
            f"{name!r} must have a denominator for each numerator "
            f"(got {list(top.shape)} and {list(bottom.shape)})"
        )
    if (bottom < 0).any() or (bottom.sum(-1) == 0).any():
        raise ValueError(
            f"{name!r} must have denominators of 0 or more, and not all 0 (got {bottom.min()})"
        )
    mean = bottom.mean(-1)
    value = top.mean(-1) / mean
    return Arm(value, (top - value[..., None] * bottom) / mean[..., None])


def linear(first: Metric, second: Metric) -> tuple[Floats, Floats]:
    """A metric of two arms as one value a user, a ratio linearised around its value in both."""
    if not (isinstance(first, Ratio) and isinstance(second, Ratio)):
        return values_of("covariate", first), values_of("covariate", second)
    both = [
        np.concatenate([values_of("covariate", a), values_of("covariate", b)], -1)
        for a, b in zip(first, second, strict=True)
    ]
    spread = arm("covariate", Ratio(*both)).spread
    size = values_of("covariate", first.numerator).shape[-1]
    return spread[..., :size], spread[..., size:]


def values_of(name: str, values: Any) -> Floats:
    """Values of users as float64 ``[..., n]``, from a tensor, an array or a list.

    Raises:
        TypeError: If they are no numbers.
        ValueError: If there are fewer than two users, or a value is not finite.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name!r} must be numbers, one a user (got {values!r:.60})") from error
    if found.ndim < 1 or found.shape[-1] < 2:
        raise ValueError(f"{name!r} must hold two users or more (got shape {list(found.shape)})")
    if not np.isfinite(found).all():
        raise ValueError(f"{name!r} must be finite (got {found[~np.isfinite(found)][0]})")
    return found
