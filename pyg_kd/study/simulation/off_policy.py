"""What another policy would have got, from the log of the one that served."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyg_kd.checks import require_choice, require_positive
from pyg_kd.study.simulation.ab import check_share
from pyg_kd.study.simulation.click_rates import RewardModel, predictions
from pyg_kd.study.simulation.log import ClickLog, check_log
from pyg_kd.study.simulation.outcomes import Floats
from pyg_kd.study.simulation.policies import Policy

#: Below so many effective visits a warning is given.
FEW = 100


class OffPolicyResult(NamedTuple):
    r"""Estimated clicks per visit of a policy that did not serve.

    Args:
        value: Clicks per visit.
        interval: Its confidence interval.
        standard_error: Of the value.
        effective: The effective number of visits, :math:`(\sum w)^2 / \sum w^2`, at the position
            where it is smallest.
        mean_weight: The mean weight at the position where it is furthest from 1, its expectation.
        clipped: The share of weights that were clipped.
        visits: Visits in the log.
        confidence: Of the interval.
    """

    value: float
    interval: tuple[float, float]
    standard_error: float
    effective: float
    mean_weight: float
    clipped: float
    visits: int
    confidence: float


def off_policy(
    log: ClickLog,
    target: Policy,
    *,
    estimator: str = "snips",
    slate: str = "position",
    clip: float | None = None,
    model: RewardModel | None = None,
    unit: Tensor | None = None,
    confidence: float = 0.95,
) -> OffPolicyResult:
    r"""Estimate the clicks of a target policy from logged propensities.

    Of ``n`` visits with clicks :math:`c_{ik}` at position :math:`k`, and weights
    :math:`w_{ik} = \pi(a_{ik}, k \mid u_i) / \mu(a_{ik}, k \mid u_i)`, the probability that the
    target puts the item logged at a position there by that of the logging policy:

    .. math::
        V_{ips} &= \frac{1}{n} \sum_{i, k} w_{ik} c_{ik} \\
        V_{snips} &= \sum_k \frac{\sum_i w_{ik} c_{ik}}{\sum_i w_{ik}} \\
        V_{dr} &= \frac{1}{n} \sum_i \Big( \sum_{k, a} \pi(a, k \mid u_i)\, \hat q(u_i, a, k)
        + \sum_k w_{ik} \big( c_{ik} - \hat q(u_i, a_{ik}, k) \big) \Big)

    as in `"Offline Evaluation of Ranking Policies with Click Models"
    <https://arxiv.org/abs/1804.10488>`_, `"The Self-Normalized Estimator for Counterfactual
    Learning" <https://papers.nips.cc/paper/5748>`_ and `"Doubly Robust Policy Evaluation and
    Learning" <https://arxiv.org/abs/1103.4601>`_.

    **Assumption** of ``slate="position"``: a click depends on the user, the item and its position,
    and on nothing else in the list. It fails where readers stop after a click. ``slate="list"``
    takes the weight of the whole list for every position: it needs no such assumption, and with
    longer lists hardly any visit is left with a weight.

    Items that the target serves and the logging policy never does leave no trace in a log: no
    estimator can know what they would have got. The mean weight tells, as it is 1 in expectation.

    Args:
        log: What was logged.
        target: The policy to evaluate, for lists as long as those logged.
        estimator: ``"ips"``, ``"snips"`` or ``"dr"``.
        slate: ``"position"`` or ``"list"``.
        clip: The largest weight; larger ones are set to it, which lowers variance and biases the
            value of ``"ips"`` downwards. By default there is none.
        model: Predicted clicks for ``"dr"``, :math:`\hat q`: called with users ``[n]`` and items
            ``[n, M]``, it returns ``[n, M, K]``. By default rates of items and positions, each
            half of the users predicted from the other half.
        unit: Who visited, as integers ``[n]``, where that is not ``log.user``: errors within a unit
            are not independent.
        confidence: Of the interval, which is normal by the number of units.

    Raises:
        ValueError: If the log could not have been written by a policy, the target lists another
            number of items, or no visit has a weight at some position.
    """
    require_choice(("ips", "snips", "dr"), estimator=estimator)
    require_choice(("position", "list"), slate=slate)
    check_share(confidence=confidence)
    if clip is not None:
        require_positive(clip=clip)
    check_log(log)
    weight = importance_weights(log, target, slate)
    raw = weight.numpy(force=True)
    kept = raw if clip is None else np.minimum(raw, clip)
    _check_weights(raw, kept, estimator)
    predicted = baseline = None
    if estimator == "dr":
        predicted, baseline = predictions(log, target, model)
    clicks = log.clicks.double().numpy(force=True)
    value, influence = estimate(clicks, kept, estimator, predicted, baseline)
    groups = (log.user if unit is None else unit).numpy(force=True)
    return _result(float(value), influence, groups, raw, float((raw > kept).mean()), confidence)


def importance_weights(log: ClickLog, target: Policy, slate: str = "position") -> Tensor:
    """How much likelier the target serves what was logged, float64 ``[n, K]``; 1 for padding."""
    if slate == "list":
        if bool((log.list_propensity <= 0).any()):
            raise ValueError("'list_propensity' must be above 0 for slate='list' (got 0.0)")
        found = target.list_probability(log.user, log.items) / log.list_propensity
        return found[:, None].expand(log.items.shape)
    found = target.probability(log.user, log.items) / log.propensity
    return torch.where(log.items >= 0, found, 1.0)


def estimate(
    clicks: Floats,
    weight: Floats,
    estimator: str,
    predicted: Floats | None = None,
    baseline: Floats | None = None,
) -> tuple[Floats, Floats]:
    r"""The value, and each visit's part in how far it is off.

    Args:
        clicks: ``[..., n, K]``; leading axes are logs apart.
        weight: ``[..., n, K]``.
        estimator: ``"ips"``, ``"snips"`` or ``"dr"``.
        predicted: Of ``"dr"``, clicks predicted of what was served, ``[..., n, K]``.
        baseline: Clicks predicted of what the target would serve, ``[..., n]``.

    Returns:
        The value ``[...]`` and influences of mean 0, ``[..., n]``, whose variance over ``n`` is
        that of the value.
    """
    if estimator == "snips":
        mean = weight.mean(-2, keepdims=True)
        rate = (weight * clicks).mean(-2, keepdims=True) / mean
        return rate.sum((-2, -1)), (weight * (clicks - rate) / mean).sum(-1)
    each = (weight * clicks).sum(-1)
    if predicted is not None and baseline is not None:
        each = baseline + (weight * (clicks - predicted)).sum(-1)
    value = each.mean(-1)
    return value, each - value[..., None]


def _check_weights(raw: Floats, kept: Floats, estimator: str) -> None:
    total = kept.sum(0)
    if estimator == "snips" and not total.all():
        raise ValueError(
            f"'log' must hold something that 'target' would serve at position "
            f"{int(total.argmin())} (got no such visit)"
        )
    mean, visits = raw.mean(0), len(raw)
    error = raw.std(0) / np.sqrt(visits)
    short = (mean < 1 - 4 * error) & (mean < 0.95)
    if short.any():
        place = int(mean.argmin())
        warnings.warn(
            f"the mean weight is {mean[place]:.2f} at position {place} and should be 1: "
            f"'target' serves items there that the log cannot hold, and the estimate leaves out or "
            "makes up what they would get",
            stacklevel=3,
        )
    few = _effective(kept).min()
    if few < FEW:
        warnings.warn(
            f"the estimate rests on {few:.0f} effective visits of {visits}: its interval cannot be "
            "trusted. Log longer, explore more, or clip weights",
            stacklevel=3,
        )


def _effective(weight: Floats) -> Floats:
    square = (weight**2).sum(0)
    found: Floats = weight.sum(0) ** 2 / np.where(square > 0, square, 1.0)
    return found


def _result(
    value: float,
    influence: Floats,
    unit: np.ndarray,
    weight: Floats,
    clipped: float,
    confidence: float,
) -> OffPolicyResult:
    from scipy.stats import t

    _, group = np.unique(unit, return_inverse=True)
    if len(group) != len(influence):
        raise ValueError(f"'unit' must be [{len(influence)}] (got [{len(group)}])")
    off = np.bincount(group, influence)
    if len(off) < 2:
        raise ValueError(f"'unit' must name two units or more (got {len(off)})")
    error = float(np.sqrt((off**2).sum() * len(off) / (len(off) - 1)) / len(influence))
    width = float(t.ppf(0.5 + confidence / 2, len(off) - 1)) * error
    mean = weight.mean(0)
    return OffPolicyResult(
        value,
        (value - width, value + width),
        error,
        float(_effective(weight).min()),
        float(mean[np.abs(mean - 1).argmax()]),
        clipped,
        len(influence),
        confidence,
    )
