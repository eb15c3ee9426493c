"""A/B tests whose unit is the user."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from pyg_kd.checks import require_number
from pyg_kd.study.simulation.outcomes import Floats, Metric, Ratio, arm, linear


class ABResult(NamedTuple):
    """A treatment beside the control.

    Args:
        control: The metric under the control.
        treatment: The metric under the treatment.
        difference: Treatment minus control, adjusted by the covariate if there is one.
        interval: Its confidence interval.
        p_value: Two-sided.
        lift: The difference as a share of the control.
        lift_interval: Its confidence interval, by the delta method.
        standard_error: Of the difference.
        freedom: Degrees of freedom of the t-distribution.
        users: Users of the control and of the treatment.
        variance_reduction: The share of the variance that the covariate removed; 0 without one.
        confidence: Of the intervals.
    """

    control: float
    treatment: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    lift: float
    lift_interval: tuple[float, float]
    standard_error: float
    freedom: float
    users: tuple[int, int]
    variance_reduction: float
    confidence: float


class Results(NamedTuple):
    """Many tests at once; what :class:`ABResult` has, with an entry for each, ``[...]``."""

    control: Floats
    treatment: Floats
    difference: Floats
    low: Floats
    high: Floats
    p_value: Floats
    lift: Floats
    lift_low: Floats
    lift_high: Floats
    standard_error: Floats
    freedom: Floats
    variance_reduction: Floats


def ab_test(
    control: Metric,
    treatment: Metric,
    *,
    covariate: tuple[Metric, Metric] | None = None,
    confidence: float = 0.95,
    share: float | None = 0.5,
) -> ABResult:
    r"""Test the difference between two groups of users.

    `Welch's t-test <https://doi.org/10.1093/biomet/34.1-2.28>`_, which lets variances differ. A
    :class:`Ratio` is tested by the delta method, with the user as the unit. A covariate from
    before the experiment removes what was known of users beforehand, as in `CUPED
    <https://doi.org/10.1145/2433396.2433413>`_:

    .. math::
        Y'_i = Y_i - \theta (X_i - \bar X), \qquad
        \theta = \frac{\mathrm{cov}(Y, X)}{\mathrm{var}(X)}

    with the covariance and the variance within the arms. The covariate must not depend on the
    treatment.

    The test is valid once, at a size that was fixed beforehand: who looks every day and stops at
    the first significant difference finds one too often
    (:func:`~pyg_kd.study.simulation.peeking_error`).

    Args:
        control: The metric of each user of the control ``[n]``, or a :class:`Ratio`.
        treatment: The same of the users of the treatment ``[m]``.
        covariate: A metric of the users of the control and one of those of the treatment, from
            before the experiment.
        confidence: Of the intervals, between 0 and 1.
        share: The share of users meant for the treatment. A warning is given where so uneven a
            split has a chance below 0.001, which hints at lost users. ``None`` for no check.

    Raises:
        TypeError: If values are no numbers.
        ValueError: If there are fewer than two users, shapes differ, a value is not finite, or
            an option is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> before = rng.poisson(5.0, 2_000)
        >>> clicks = rng.poisson(before * np.repeat([1.0, 1.05], 1_000))
        >>> plain = ab_test(clicks[:1_000], clicks[1_000:])
        >>> known = ab_test(
        ...     clicks[:1_000], clicks[1_000:], covariate=(before[:1_000], before[1_000:])
        ... )
        >>> round(plain.p_value, 3), round(known.p_value, 3), round(known.variance_reduction, 2)
        (0.011, 0.002, 0.47)
    """
    check_share(confidence=confidence)
    if isinstance(control, Ratio) != isinstance(treatment, Ratio):
        raise ValueError("'treatment' must be a Ratio if and only if 'control' is one")
    sizes = _size(control), _size(treatment)
    if share is not None:
        _check_split(*sizes, share)
    found = ab_tests(control, treatment, covariate=covariate, confidence=confidence)
    v = {name: float(value) for name, value in found._asdict().items()}
    interval = v.pop("low"), v.pop("high")
    lift = v.pop("lift_low"), v.pop("lift_high")
    return ABResult(interval=interval, lift_interval=lift, users=sizes, confidence=confidence, **v)


def ab_tests(
    control: Metric,
    treatment: Metric,
    *,
    covariate: tuple[Metric, Metric] | None = None,
    confidence: float = 0.95,
) -> Results:
    """As :func:`ab_test`, of many experiments at once: users are the last axis of ``[..., n]``."""
    from scipy.stats import t

    first, second = arm("control", control), arm("treatment", treatment)
    parts, (shift, reduction) = [first.spread, second.spread], np.zeros((2, *first.value.shape))
    if covariate is not None:
        parts, shift, reduction = _adjusted(parts, covariate)
    (v0, f0), (v1, f1) = (_variance_of_mean(part) for part in parts)
    variance = v0 + v1
    error = np.sqrt(variance)
    # Welch and Satterthwaite; where nothing varies there is nothing to be uncertain of.
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(variance > 0, variance**2 / (v0**2 / f0 + v1**2 / f1), f0 + f1)
        difference = second.value - first.value - shift
        statistic = np.where(difference == 0, 0.0, np.abs(difference) / error)
        # The control is uncertain too: what varies is the difference less the lift times the
        # control, whose covariance with the difference is what the covariate leaves of it.
        lift = difference / first.value
        lift_variance = variance + 2 * lift * v0 + lift**2 * _variance_of_mean(first.spread)[0]
        lift_error = np.sqrt(lift_variance) / np.abs(first.value)
    width = t.ppf(0.5 + confidence / 2, freedom)
    return Results(
        first.value,
        second.value,
        difference,
        difference - width * error,
        difference + width * error,
        2 * t.sf(statistic, freedom),
        lift,
        lift - width * lift_error,
        lift + width * lift_error,
        error,
        freedom,
        reduction,
    )


def _adjusted(
    parts: list[Floats], covariate: tuple[Metric, Metric]
) -> tuple[list[Floats], Floats, Floats]:
    """The spreads less what the covariate tells, what it adds to the difference, and its use."""
    before = linear(*covariate)
    for name, part, x in zip(("control", "treatment"), parts, before, strict=True):
        if part.shape != x.shape:
            raise ValueError(
                f"'covariate' must have a value for each user of {name!r} "
                f"(got {list(x.shape)} for {list(part.shape)})"
            )
    centred = [x - x.mean(-1, keepdims=True) for x in before]
    covariance = sum((x * y).sum(-1) for x, y in zip(centred, parts, strict=True))
    variance = sum((x * x).sum(-1) for x in centred)
    with np.errstate(invalid="ignore", divide="ignore"):
        theta = np.where(variance > 0, covariance / variance, 0.0)
    rest = [y - theta[..., None] * x for x, y in zip(centred, parts, strict=True)]
    shift = theta * (before[1].mean(-1) - before[0].mean(-1))
    variances = [sum(_variance_of_mean(p)[0] for p in group) for group in (rest, parts)]
    with np.errstate(invalid="ignore", divide="ignore"):
        reduction = np.where(variances[1] > 0, 1 - variances[0] / variances[1], 0.0)
    return rest, shift, reduction


def _variance_of_mean(spread: Floats) -> tuple[Floats, int]:
    """The variance of a mean whose users are off by these, and its degrees of freedom."""
    size = spread.shape[-1]
    return (spread**2).sum(-1) / (size - 1) / size, size - 1


def _size(metric: Metric) -> int:
    values = metric.numerator if isinstance(metric, Ratio) else metric
    shape = np.shape(values)
    if len(shape) != 1:
        raise ValueError(f"a metric must have one value a user, [n] (got shape {list(shape)})")
    return int(shape[0])


def _check_split(control: int, treatment: int, share: float) -> None:
    from scipy.stats import binomtest

    check_share(share=share)
    if binomtest(treatment, control + treatment, share).pvalue < 1e-3:
        warnings.warn(
            f"{treatment} of {control + treatment} users are in the treatment, where {share:.0%} "
            "were meant to be: find out where users were lost before reading the result",
            stacklevel=3,
        )


def check_share(**options: float) -> None:
    """Raise ``ValueError`` for the first option that does not lie between 0 and 1."""
    require_number(**options)
    for name, value in options.items():
        if not 0 < value < 1:
            raise ValueError(f"{name!r} must lie between 0 and 1 (got {value})")
