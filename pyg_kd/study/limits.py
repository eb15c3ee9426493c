"""What of a study is run, and for how long."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from pyg_kd.study.plan import OPTUNA, Plan
from pyg_kd.study.store import Place


class OutOfTime(Exception):
    """No run is started any more."""


class Limits(NamedTuple):
    """What is run, and for how long.

    Args:
        until: No run is started after this time of :func:`time.monotonic`.
        datasets: These data sets alone; all by default.
        worlds: These worlds alone.
        methods: These rows alone, with those that they depend on.
        seeds: These seeds alone; settings are chosen at the first of the study all the same.
    """

    until: float = float("inf")
    datasets: Collection[str] | None = None
    worlds: Collection[str] | None = None
    methods: Collection[str] | None = None
    seeds: Collection[int] | None = None

    def wants(self, place: Place) -> bool:
        """Whether a row is to be run."""
        given = (self.datasets, self.worlds, self.methods)
        return all(of is None or name in of for name, of in zip(place, given, strict=True))

    def wants_seed(self, seed: int) -> bool:
        """Whether a seed is to be run."""
        return self.seeds is None or seed in self.seeds


def expected_runs(plan: Plan, places: Collection[Place], limits: Limits) -> int:
    """How many runs there are, before grids grow."""
    total = 0
    for place in places:
        total += 1 + sum(limits.wants_seed(seed) for seed in plan.seeds(place)[1:])
        if plan.is_teacher(place) or plan.row(place).like is None:
            total += _trials(plan, place) - 1
    return total


def _trials(plan: Plan, place: Place) -> int:
    budget = plan.config.budget
    if budget.search == OPTUNA and not plan.is_teacher(place):
        return budget.trials or 1
    return len(plan.search(place, Path()).propose([]))
