"""Is a method better than another for other users, and for other seeds?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pyg_kd.checks import require_count
from pyg_kd.evaluation.full_ranking import PerUser
from pyg_kd.evaluation.run_values import Array, Runs, Seeds, require_seeds, stack_runs
from pyg_kd.evaluation.significance import Comparison, holm, paired_t
from pyg_kd.evaluation.two_way import draw_users, percentiles, replicates, two_sided

#: A difference, its interval, and its p-value.
_Test = tuple[float, tuple[float, float], float]


class RunsComparison(NamedTuple):
    r"""A method beside the baseline, on the seeds of both.

    Args:
        users: The paired t-test over users, of their means over seeds: does the difference hold
            for other users, with these very runs?
        seeds: The paired t-test over seeds, of their means over users: does it hold for other
            seeds, with these very users? ``None`` with fewer than three.
        both: The bootstrap over users and seeds: does it hold for other users and other seeds?
            ``None`` with a single seed.
        num_seeds: How many seeds both have.
    """

    users: Comparison
    seeds: Comparison | None
    both: Comparison | None
    num_seeds: int

    @property
    def note(self) -> str:
        """What so few seeds can't tell; empty from five seeds on."""
        if self.num_seeds == 1:
            return "One seed: how much another would change is not known."
        if self.num_seeds < 5:
            return (
                f"{self.num_seeds} seeds: how much they differ is known roughly, and the interval "
                "rests on seeds whose means are normal."
            )
        return ""


def compare_runs(
    baseline: Seeds | Tensor | PerUser,
    methods: Mapping[str, Seeds],
    metric: str | None = None,
    *,
    num_replicates: int = 10_000,
    seed: int = 0,
) -> dict[str, RunsComparison]:
    r"""Tests of methods against one baseline: over users, over seeds, and over both at once.

    A test over users finds two seeds of one method different: all users of a run share its luck.
    A test over seeds knows nothing of other users. The bootstrap over both resamples users and
    weights runs, as :mod:`pyg_kd.evaluation.two_way` describes; its p-value is twice the share of
    replicates on the far side of zero, so at least ``2 / (num_replicates + 1)``. Every kind of
    p-value is adjusted by Holm's method for the number of methods.

    Args:
        baseline: What ``evaluate(..., per_user=True)`` returned, or a metric of every user, by
            seed; or one run, which all seeds are compared with as it stands.
        methods: The same of the same users, by name of the method.
        metric: Which metric, where several were evaluated, like ``"ndcg@20"``.
        num_replicates: Replicates of the bootstrap.
        seed: Of its draws, which all methods share.

    Raises:
        TypeError: If values are something else, or runs of several seeds do not come by seed.
        ValueError: If a method shares no seed with the baseline, there are fewer than two users,
            users or shapes differ, a value is not finite, or ``metric`` was not evaluated.

    Example:
        >>> import torch
        >>> alone = {seed: torch.rand(50) for seed in range(5)}
        >>> better = {seed: values + 0.1 for seed, values in alone.items()}
        >>> found = compare_runs(alone, {"better": better})["better"]
        >>> round(found.both.difference, 3), found.both.p_value < 0.01, found.num_seeds
        (0.1, True, 5)
    """
    require_count(num_replicates=num_replicates)
    pairs = {name: paired_runs(baseline, name, runs, metric) for name, runs in methods.items()}
    if not pairs:
        return {}
    gaps = {name: other - base for name, (base, other) in pairs.items()}
    draws = draw_users(np.stack([gap.mean(0) for gap in gaps.values()], 1), num_replicates, seed)
    tests: dict[str, dict[str, _Test]] = {"users": {}, "seeds": {}, "both": {}}
    for place, (name, (base, other)) in enumerate(pairs.items()):
        tests["users"][name] = paired_t(base.mean(0), other.mean(0))
        if len(base) > 2:
            tests["seeds"][name] = paired_t(base.mean(1), other.mean(1))
        if len(base) > 1:
            found = replicates(gaps[name][:, :, None], draws, [place])[:, 0]
            difference = float(gaps[name].mean())
            tests["both"][name] = difference, percentiles(found), two_sided(found)
    adjusted = {kind: _adjusted(of) for kind, of in tests.items()}
    return {
        name: RunsComparison(
            adjusted["users"][name],
            adjusted["seeds"].get(name),
            adjusted["both"].get(name),
            len(base),
        )
        for name, (base, _) in pairs.items()
    }


def paired_runs(
    baseline: Seeds | Tensor | PerUser, name: str, runs: Seeds, metric: str | None
) -> tuple[Array, Array]:
    """The baseline and a method on the seeds of both, ``[num_seeds, n]`` each."""
    require_seeds(name, runs)
    if isinstance(baseline, (Tensor, PerUser)):
        base = stack_runs("baseline", baseline, metric)
        other = stack_runs(name, [runs[s] for s in sorted(runs)], metric, base).values
        return np.broadcast_to(base.values, other.shape), other
    require_seeds("baseline", baseline)
    common = sorted(runs.keys() & baseline.keys())
    if not common:
        raise ValueError(
            f"{name!r} must have a seed of 'baseline', one of {sorted(baseline)} "
            f"(got {sorted(runs)})"
        )
    first: Runs = stack_runs("baseline", [baseline[s] for s in common], metric)
    return first.values, stack_runs(name, [runs[s] for s in common], metric, first).values


def _adjusted(tests: dict[str, _Test]) -> dict[str, Comparison]:
    found = zip(tests.items(), holm([p for _, _, p in tests.values()]), strict=True)
    return {name: Comparison(*test, p) for (name, test), p in found}
