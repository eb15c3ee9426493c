"""Is a method better than the baseline on the same users, or was it luck?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_kd.evaluation.full_ranking import PerUser

#: A metric of every user: of one run, or of several seeds.
PerUserRuns = Tensor | PerUser | Sequence[Tensor | PerUser]


class Comparison(NamedTuple):
    """A method beside the baseline.

    Args:
        difference: Mean over the users of the method's value minus the baseline's.
        interval: Its 95 % confidence interval.
        p_value: Two-sided, of the paired t-test.
        adjusted: ``p_value`` after Holm's correction for all methods compared.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    adjusted: float


class _Values(NamedTuple):
    mean: NDArray[np.float64]
    user: Tensor | None


def compare(
    baseline: PerUserRuns, methods: Mapping[str, PerUserRuns], metric: str | None = None
) -> dict[str, Comparison]:
    r"""Paired tests of methods against one baseline, user by user.

    The paired t-test of the differences per user, whose mean is normal by the number of users,
    and `Holm's correction <https://www.jstor.org/stable/4615733>`_ for comparing ``m`` methods:
    of the ordered :math:`p_{(1)} \leq p_{(2)} \leq \dots` the adjusted ones are
    :math:`\max_{j \leq i} \min(1, (m - j + 1)\, p_{(j)})`.

    Of several seeds, a user's mean is taken. The test tells how far the difference holds for other
    users; how much another seed would change, only seeds tell.

    Args:
        baseline: What ``evaluate(..., per_user=True)`` returned, or a metric of every user,
            ``[n]``; with several seeds, a list of either.
        methods: The same of the same users, by name of the method.
        metric: Which metric, where several were evaluated, like ``"ndcg@20"``.

    Raises:
        TypeError: If values are something else.
        ValueError: If there are fewer than two users, users or shapes differ, a value is not
            finite, or ``metric`` was not evaluated.

    Example:
        >>> import torch
        >>> alone = torch.tensor([0.1, 0.4, 0.2, 0.3])
        >>> result = compare(alone, {"better": alone + torch.tensor([0.1, 0.2, 0.1, 0.2])})
        >>> round(result["better"].difference, 3), result["better"].p_value < 0.05
        (0.15, True)
    """
    from scipy.stats import ttest_rel

    first = _values("baseline", baseline, metric)
    base, tests = first.mean, {}
    for name, values in methods.items():
        other = _values(name, values, metric, first).mean
        if np.array_equal(other, base):  # no test is defined where nothing differs
            tests[name] = (0.0, (0.0, 0.0), 1.0)
            continue
        test = ttest_rel(other, base)
        low, high = test.confidence_interval(0.95)
        tests[name] = (float((other - base).mean()), (float(low), float(high)), float(test.pvalue))
    adjusted = holm([p for _, _, p in tests.values()])
    return {n: Comparison(*t, q) for (n, t), q in zip(tests.items(), adjusted, strict=True)}


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down adjustment of p-values, in their order."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _values(
    name: str, given: PerUserRuns, metric: str | None, like: _Values | None = None
) -> _Values:
    """The mean over runs, one value a user; of the users of ``like``, if there is one."""
    single = isinstance(given, (Tensor, PerUser)) or not isinstance(given, Sequence)
    runs: list[object] = [given] if single else list(given)
    if not runs:
        raise ValueError(f"{name!r} must hold a run or more (got {given!r})")
    found = [_one_run(name, run, metric) for run in runs]
    like = like or found[0]
    for values, user in found:
        if user is not None and like.user is not None and not torch.equal(user, like.user):
            raise ValueError(f"{name!r} must be of the users of 'baseline' (got others)")
        if values.shape != like.mean.shape:
            raise ValueError(
                f"{name!r} must be of shape {list(like.mean.shape)} (got {list(values.shape)})"
            )
    return _Values(np.mean([values for values, _ in found], axis=0), like.user)


def _one_run(name: str, run: object, metric: str | None) -> _Values:
    user = None
    if isinstance(run, PerUser):
        found, user = run.values, run.user
        key = next(iter(found)) if metric is None and len(found) == 1 else metric
        if key not in found:
            raise ValueError(f"'metric' must be one of {[*found]} (got {metric!r})")
        run = found[key]
    if not isinstance(run, Tensor):
        raise TypeError(
            f"{name!r} must be what evaluate(..., per_user=True) returns, a tensor of one metric, "
            f"or a list of either, one a seed (got {type(run).__name__})"
        )
    array: NDArray[np.float64] = run.detach().cpu().double().numpy()
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"{name!r} must hold two users or more (got shape {list(array.shape)})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name!r} must be finite (got {array[~np.isfinite(array)][0]})")
    return _Values(array, user)
