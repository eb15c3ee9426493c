"""Is a method better than the baseline on the same users, or was it luck?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyg_kd.evaluation.run_values import Array, PerUserRuns, stack_runs


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


def compare(
    baseline: PerUserRuns, methods: Mapping[str, PerUserRuns], metric: str | None = None
) -> dict[str, Comparison]:
    r"""Paired tests of methods against one baseline, user by user.

    The paired t-test of the differences per user, whose mean is normal by the number of users,
    and `Holm's correction <https://www.jstor.org/stable/4615733>`_ for comparing ``m`` methods:
    of the ordered :math:`p_{(1)} \leq p_{(2)} \leq \dots` the adjusted ones are
    :math:`\max_{j \leq i} \min(1, (m - j + 1)\, p_{(j)})`.

    Of several seeds, a user's mean is taken, so that there may be more of one side than of the
    other: a baseline in closed form has one run. The test tells how far the difference holds for
    other users; how much another seed would change, :func:`compare_runs` tells, which pairs seeds.

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
    first = stack_runs("baseline", baseline, metric)
    base = first.values.mean(0)
    tests = {
        name: paired_t(base, stack_runs(name, values, metric, first).values.mean(0))
        for name, values in methods.items()
    }
    adjusted = holm([p for _, _, p in tests.values()])
    return {n: Comparison(*t, q) for (n, t), q in zip(tests.items(), adjusted, strict=True)}


def paired_t(base: Array, other: Array) -> tuple[float, tuple[float, float], float]:
    r"""The paired t-test: mean difference, its 95 % interval, and the two-sided p-value.

    Where no pair differs, p is 1; where all differ by the same, it is 0.

    Args:
        base: Values, ``[n]``, two at least.
        other: Those to compare with them, ``[n]``.
    """
    from scipy.stats import ttest_rel

    gaps = other - base
    difference = float(gaps.mean())
    if (gaps == gaps[0]).all():  # no test is defined without a deviation
        return difference, (difference, difference), 0.0 if difference else 1.0
    test = ttest_rel(other, base)
    low, high = test.confidence_interval(0.95)
    return difference, (float(low), float(high)), float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values, in their order.

    Example:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
