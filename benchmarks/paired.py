"""Is a method better than another for other users, and for other seeds?"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from torch import Tensor

from pyg_kd.evaluation import compare
from pyg_kd.evaluation.significance import holm

#: Values of every user, by seed.
Seeds = Mapping[int, Tensor]


def paired(baseline: Seeds, methods: Mapping[str, Seeds]) -> dict[str, dict[str, Any]]:
    """Paired tests of methods against a baseline, on the seeds that both have.

    Over users, whose means over the seeds are paired, and over seeds, whose means over the users
    are paired; each p-value is adjusted by Holm's method for the number of methods.

    Args:
        baseline: Values ``[n]`` of the same users, by seed.
        methods: The same, by name.

    Returns:
        By name: ``difference``, its 95 % ``interval`` over users, ``p users``, and ``p seeds``,
        which is missing with fewer than three seeds.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, runs in methods.items():
        common = sorted(runs.keys() & baseline.keys())
        if not common:
            continue
        pair = [[values[seed] for seed in common] for values in (baseline, runs)]
        over_users = compare(pair[0], {name: pair[1]})[name]
        found[name] = {
            "difference": over_users.difference,
            "interval": list(over_users.interval),
            "p users": over_users.p_value,
        }
        if len(common) > 2:
            found[name]["p seeds"] = over_seeds(*pair)
    for which in ("p users", "p seeds"):
        names = [name for name, test in found.items() if which in test]
        for name, value in zip(names, holm([found[n][which] for n in names]), strict=True):
            found[name][which] = value
    return found


def over_seeds(baseline: list[Tensor], method: list[Tensor]) -> float:
    """The p-value of the paired t-test of the means of seeds."""
    from scipy.stats import ttest_rel

    means = [[float(values.double().mean()) for values in runs] for runs in (method, baseline)]
    if means[0] == means[1]:
        return 1.0
    gaps = [a - b for a, b in zip(*means, strict=True)]
    if all(gap == mean(gaps) for gap in gaps):  # no test is defined without a deviation
        return 0.0
    return float(ttest_rel(*means).pvalue)
