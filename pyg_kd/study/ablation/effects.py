"""What every component of a method contributes, with intervals over users and seeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

import numpy as np

from pyg_kd.checks import require_count
from pyg_kd.evaluation.closed_gap import ratio_percentiles
from pyg_kd.evaluation.run_values import Array, Seeds, stack_runs
from pyg_kd.evaluation.two_way import draw_users, percentiles, replicates
from pyg_kd.study.ablation import contrasts

#: The rows of a full factorial, by the components that are on.
Subsets = Mapping[frozenset[str], Seeds]


class Effect(NamedTuple):
    r"""A mean, or a difference of means, over users and seeds.

    Args:
        value: The estimate.
        interval: Its 95 % interval for other users and, with two seeds or more, other seeds.
        share: ``value`` as a share of the total gain; ``None`` where that is zero.
        share_interval: Interval of the share; unbounded where the total is not clearly positive.
    """

    value: float
    interval: tuple[float, float]
    share: float | None = None
    share_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Ablation:
    r"""The effects of a full factorial.

    Args:
        components: Names of the components.
        metric: What is measured.
        num_seeds: Seeds of every row.
        num_users: Users of every row.
        subsets: Mean of every row.
        total: What all components add to none.
        shapley: Shapley value of each component. They add up to ``total``.
        leave_one_out: What is lost without each.
        add_one_in: What each adds alone.
        interactions: Shapley interaction index of every pair.
        controls: What all components add to none with a control in place of the teacher.
    """

    components: tuple[str, ...]
    metric: str
    num_seeds: int
    num_users: int
    subsets: dict[frozenset[str], Effect]
    total: Effect
    shapley: dict[str, Effect]
    leave_one_out: dict[str, Effect]
    add_one_in: dict[str, Effect]
    interactions: dict[tuple[str, str], Effect]
    controls: dict[str, Effect] = field(default_factory=dict)


def ablate(
    components: Sequence[str],
    rows: Subsets,
    *,
    controls: Mapping[str, Seeds] | None = None,
    metric: str | None = None,
    num_replicates: int = 10_000,
    seed: int = 0,
) -> Ablation:
    r"""Attribute the gain of a method to its components.

    All subsets of the components were trained: :func:`~pyg_kd.study.ablation.contrasts.shapley`
    and :func:`~pyg_kd.study.ablation.contrasts.interaction` say what is computed of their means.
    Intervals are percentiles of the bootstrap over users and seeds of
    :func:`~pyg_kd.evaluation.compare_runs`, in which all rows share their draws: rows are paired
    by user and by seed. Those of shares are Fieller's sets under the same replicates.

    Args:
        components: Names of the components, five at most.
        rows: A metric of every user by seed, for every subset of the components.
        controls: The same of all components with a control in place of the teacher, by its name.
        metric: Which metric, where several were evaluated.
        num_replicates: Replicates of the bootstrap.
        seed: Of its draws.

    Raises:
        TypeError: If values are something else.
        ValueError: If a name is repeated, there are no components or more than five, a subset is
            missing or unknown, rows have no seed in common or other users, or a value is not
            finite.

    Example:
        >>> import torch
        >>> base = {s: torch.rand(50, dtype=torch.double) for s in range(3)}
        >>> add = lambda by: {s: values + by for s, values in base.items()}
        >>> found = ablate(
        ...     ["DE", "RRD"],
        ...     {
        ...         frozenset(): base,
        ...         frozenset({"DE"}): add(0.1),
        ...         frozenset({"RRD"}): add(0.2),
        ...         frozenset({"DE", "RRD"}): add(0.25),
        ...     },
        ... )
        >>> {name: round(effect.value, 3) for name, effect in found.shapley.items()}
        {'DE': 0.075, 'RRD': 0.175}
        >>> round(found.interactions["DE", "RRD"].value, 3)
        -0.05
    """
    require_count(num_replicates=num_replicates)
    names = _components(components)
    columns = [_given(rows, subset, names) for subset in range(2 ** len(names))]
    columns += list((controls or {}).values())
    labels = [_name(_subset(names, s)) for s in range(2 ** len(names))] + list(controls or {})
    values = _stack(columns, labels, metric)
    draws = draw_users(values.mean(0), num_replicates, seed)
    found = _Estimates(names, values.mean((0, 1)), replicates(values, draws))
    n, place = len(names), {name: i for i, name in enumerate(names)}
    return Ablation(
        components=names,
        metric=metric or "",
        num_seeds=len(values),
        num_users=values.shape[1],
        subsets={_subset(names, s): found.mean(s) for s in range(2**n)},
        total=found.effect(contrasts.total(n)),
        shapley={name: found.effect(contrasts.shapley(n, i)) for name, i in place.items()},
        leave_one_out={m: found.effect(contrasts.leave_one_out(n, i)) for m, i in place.items()},
        add_one_in={m: found.effect(contrasts.add_one_in(n, i)) for m, i in place.items()},
        interactions={
            (one, other): found.effect(contrasts.interaction(n, place[one], place[other]))
            for one, other in combinations(names, 2)
        },
        controls={name: found.control(c) for c, name in enumerate(controls or {})},
    )


class _Estimates:
    """Linear contrasts of rows, and of their replicates."""

    def __init__(self, names: tuple[str, ...], means: Array, drawn: Array) -> None:
        self.means, self.drawn, self.subsets = means, drawn, 2 ** len(names)
        self.whole = self._vector(contrasts.total(len(names)))

    def mean(self, column: int) -> Effect:
        return Effect(float(self.means[column]), percentiles(self.drawn[:, column]))

    def effect(self, weights: Sequence[Fraction]) -> Effect:
        return self._effect(self._vector(weights))

    def control(self, place: int) -> Effect:
        """What a row adds to no component at all."""
        weights = np.zeros(len(self.means))
        weights[self.subsets + place], weights[0] = 1.0, -1.0
        return self._effect(weights)

    def _effect(self, weights: Array) -> Effect:
        value, drawn = float(weights @ self.means), self.drawn @ weights
        whole = float(self.whole @ self.means)
        if whole == 0:
            return Effect(value, percentiles(drawn))
        pairs = np.stack([drawn, self.drawn @ self.whole], axis=1)
        return Effect(value, percentiles(drawn), value / whole, ratio_percentiles(pairs))

    def _vector(self, weights: Sequence[Fraction]) -> Array:
        found = np.zeros(len(self.means))
        found[: len(weights)] = [float(weight) for weight in weights]
        return found


def _components(given: Sequence[str]) -> tuple[str, ...]:
    names = tuple(given)
    if isinstance(given, str) or len(set(names)) != len(names):
        raise ValueError(f"'components' must be a list of different names (got {given!r})")
    if not 1 <= len(names) <= contrasts.MOST:
        raise ValueError(f"'components' must be 1 to {contrasts.MOST} (got {len(names)}: {names})")
    return names


def _subset(names: Sequence[str], number: int) -> frozenset[str]:
    return frozenset(name for i, name in enumerate(names) if number >> i & 1)


def _name(subset: Collection[str]) -> str:
    return " + ".join(sorted(subset)) or "no component"


def _given(rows: Subsets, number: int, names: tuple[str, ...]) -> Seeds:
    for found in rows:
        if unknown := set(found) - set(names):
            raise ValueError(f"'rows' has components that are not listed (got {sorted(unknown)})")
    subset = _subset(names, number)
    if subset not in rows:
        missing = [s for s in range(2 ** len(names)) if _subset(names, s) not in rows]
        raise ValueError(
            f"'rows' must hold all {2 ** len(names)} subsets of the components: {_name(subset)!r} "
            f"is missing, and {len(missing)} in all"
        )
    return rows[subset]


def _stack(columns: list[Seeds], labels: list[str], metric: str | None) -> Array:
    """Values of the seeds that all rows have, float64 ``[k, n, m]``."""
    seeds = sorted(set.intersection(*(set(column) for column in columns)))
    if not seeds:
        raise ValueError(
            "'rows' must have a seed in common (got "
            f"{ {label: sorted(c) for label, c in zip(labels, columns, strict=True)} })"
        )
    first = None
    found = []
    for label, column in zip(labels, columns, strict=True):
        runs = stack_runs(label, [column[s] for s in seeds], metric, first)
        first = runs if first is None else first
        found.append(runs.values)
    return np.stack(found, axis=2)
