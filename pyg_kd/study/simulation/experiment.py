"""Online experiments of served lists in one call, beside the truth that no experiment knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.study.simulation.ab import ABResult, ab_test
from pyg_kd.study.simulation.clicks import ClickModel, PositionBias
from pyg_kd.study.simulation.expected import expected_clicks
from pyg_kd.study.simulation.interleaving import Preference, interleaving_test, team_draft
from pyg_kd.study.simulation.latency import LatencyEffect
from pyg_kd.study.simulation.lists import served_lists
from pyg_kd.study.simulation.log import serve
from pyg_kd.study.simulation.outcomes import Floats, Ratio
from pyg_kd.study.simulation.policies import FixedLists
from pyg_kd.study.simulation.power import sample_size
from pyg_kd.study.simulation.visitors import Visitors, draw_visitors, totals
from pyg_kd.study.simulation.world import TasteWorld


class Measured(NamedTuple):
    """What was counted of each visitor.

    Args:
        clicks: During the experiment, float64 ``[n]``.
        visits: During the experiment, ``[n]``.
        before: Clicks before it, ``[n]``.
        treated: Who was in the treatment, bool ``[n]``.
        credit: Clicks on interleaved lists, on the control's items and on the treatment's,
            ``[n, 2]``.
    """

    clicks: Floats
    visits: Floats
    before: Floats
    treated: np.ndarray
    credit: Floats


class Outcome(NamedTuple):
    """A treatment beside the control.

    Args:
        name: Of the treatment.
        true_difference: Of the expected clicks of a visitor, exact.
        true_lift: The same as a share of the control's.
        shared: The share of places that hold the control's items, in any order.
        plain: The A/B test of clicks per visitor.
        cuped: The same with the clicks before as covariate.
        ratio: The A/B test of clicks per visit.
        interleaving: Team-draft interleaving of as many visitors.
        needed: Visitors needed to find the difference with 80 %, by kind of experiment.
        measured: What was counted.
    """

    name: str
    true_difference: float
    true_lift: float
    shared: float
    plain: ABResult
    cuped: ABResult
    ratio: ABResult
    interleaving: Preference
    needed: dict[str, int]
    measured: Measured


@dataclass(frozen=True)
class Experiment:
    """What :func:`simulate` found.

    Args:
        control: Name of the control.
        outcomes: One for each treatment.
        expected: Exact expected clicks of a visitor under each name.
        visitors: Number of visitors.
        assumptions: What was assumed, by name.
    """

    control: str
    outcomes: list[Outcome]
    expected: dict[str, float]
    visitors: int
    assumptions: dict[str, str]


def simulate(
    world: TasteWorld,
    arms: Mapping[str, Any],
    *,
    control: str,
    k: int = 10,
    data: HeteroData | None = None,
    clicks: ClickModel | None = None,
    visitors: int = 10_000,
    visits: float = 3.0,
    latency: Mapping[str, float] | None = None,
    effect: LatencyEffect | None = None,
    seed: int = 0,
) -> Experiment:
    r"""Serve several models' lists to visitors of a known world, and test each against the control.

    Every treatment gets an A/B test of clicks per visitor, plain and with the clicks before as a
    covariate, one of clicks per visit, and an interleaved experiment of as many visitors; the
    true difference stands beside them.

    Args:
        world: Whose tastes decide.
        arms: Lists ``[U, k]``, a recommender or an index, by name; two or more.
        control: The name of the one that is served today.
        k: Length of the lists.
        data: The graph, for recommenders: its items are not listed again.
        clicks: How relevance becomes clicks; :class:`PositionBias` by default.
        visitors: Number of visitors, half of them in either arm.
        visits: Mean visits of a visitor during the experiment, and before.
        latency: Milliseconds that each of the arms takes, measured or made up.
        effect: What waiting costs, an assumption; nothing by default.
        seed: Seed of everything random.

    Raises:
        ValueError: If an option is out of range, lists do not fit the world, or ``control`` or
            ``latency`` name no arm.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(num_users=200, num_items=80, num_edges=2_000)[0]
        >>> world = TasteWorld.from_data(data)
        >>> popular = torch.arange(10).repeat(200, 1)
        >>> arms = {"same for all": popular, "ideal": world.ideal_lists(10)}
        >>> found = simulate(world, arms, control="same for all", visitors=2_000)
        >>> outcome = found.outcomes[0]
        >>> low, high = outcome.cuped.interval
        >>> low < outcome.true_difference < high
        True
    """
    _check_names(arms, control, latency)
    require_count(k=k)
    lists = {name: served_lists(arm, k, data=data, name=name) for name, arm in arms.items()}
    model, effect = clicks or PositionBias(), effect or LatencyEffect()
    stay = {name: effect.stay((latency or {}).get(name, 0.0)) for name in arms}
    expected = {
        name: visits * stay[name] * float(expected_clicks(world, FixedLists(of), model).mean())
        for name, of in lists.items()
    }
    arm_of = {name: Arm(FixedLists(of), stay[name]) for name, of in lists.items()}
    run = _Run(world, model, Generator(world.device).manual_seed(seed), visitors, visits)
    outcomes = [
        _outcome(run, name, arm_of[control], arm_of[name], expected[control], expected[name])
        for name in arms
        if name != control
    ]
    assumptions = {"clicks": repr(model), "latency": repr(effect), "visits": f"{visits}"}
    assumptions |= {f"latency of {n}": f"{ms:.3g} ms" for n, ms in (latency or {}).items()}
    return Experiment(control, outcomes, expected, visitors, assumptions)


class Arm(NamedTuple):
    """Lists, and the share of visits that wait for them."""

    policy: FixedLists
    stay: float


class _Run(NamedTuple):
    world: TasteWorld
    model: ClickModel
    generator: Generator
    visitors: int
    visits: float

    def clicks(self, arm: Arm, group: Visitors, times: Tensor, which: Tensor) -> Floats:
        """Clicks of some visitors over all of their visits, 0 for the others."""
        visitor = torch.repeat_interleave(torch.where(which, times, 0))
        log = serve(
            self.world,
            arm.policy,
            group.user[visitor],
            clicks=self.model,
            generator=self.generator,
            stay=arm.stay,
        )
        return totals(log.clicks.sum(1), visitor, self.visitors)

    def credit(self, control: Arm, treatment: Arm, group: Visitors) -> Floats:
        """Clicks on the items of either team, over all visits of each visitor."""
        visitor = torch.repeat_interleave(group.during)
        users = group.user[visitor]
        made = team_draft(
            control.policy.pool[users],
            treatment.policy.pool[users],
            control.policy.k,
            generator=self.generator,
        )
        drawn = self.model.sample(self.world.relevance(users, made.items), self.generator)
        sides = [totals(side, visitor, self.visitors) for side in made.credit(drawn)]
        return np.stack(sides, 1)


def _outcome(
    run: _Run, name: str, control: Arm, treatment: Arm, base: float, other: float
) -> Outcome:
    group = draw_visitors(run.world, run.visitors, visits=run.visits, generator=run.generator)
    everyone = torch.ones_like(group.treated)
    before = run.clicks(control, group, group.before, everyone)
    now = run.clicks(control, group, group.during, ~group.treated)
    now = now + run.clicks(treatment, group, group.during, group.treated)
    credit = run.credit(control, treatment, group)
    in_treatment = group.treated.numpy(force=True)
    measured = Measured(now, group.during.double().numpy(force=True), before, in_treatment, credit)
    sides = ~in_treatment, in_treatment
    values = [now[side] for side in sides]
    plain = ab_test(*values)
    cuped = ab_test(*values, covariate=(before[sides[0]], before[sides[1]]))
    ratio = ab_test(*(Ratio(now[side], measured.visits[side]) for side in sides))
    preference = interleaving_test(credit[:, 0], credit[:, 1], test="t")
    needed = _needed(other - base, values, cuped.variance_reduction, credit[:, 1] - credit[:, 0])
    same = (control.policy.pool[:, :, None] == treatment.policy.pool[:, None, :]).any(2)
    shared = float(same.double().mean())
    lift = (other - base) / base if base else float("nan")
    return Outcome(
        name, other - base, lift, shared, plain, cuped, ratio, preference, needed, measured
    )


def _needed(
    difference: float, values: list[Floats], reduction: float, gain: Floats
) -> dict[str, int]:
    """Visitors for a power of 80 %, by the true difference and the deviations that were measured.

    What interleaving would show in the long run is not known exactly: its measured effect is taken.
    """
    found: dict[str, int] = {}
    if difference:
        deviation = float(values[0].std(ddof=1)), float(values[1].std(ddof=1))
        found["A/B"] = sample_size(difference, deviation)
        found["A/B, CUPED"] = ceil(found["A/B"] * (1 - reduction))
    if gain.mean():
        # A mean of differences has a quarter of the variance factor of two arms.
        found["interleaving"] = ceil(sample_size(gain.mean(), float(gain.std(ddof=1))) / 4)
    return found


def _check_names(
    arms: Mapping[str, Any], control: str, latency: Mapping[str, float] | None
) -> None:
    if control not in arms:
        raise ValueError(f"'control' must be one of {[*arms]} (got {control!r})")
    if len(arms) < 2:
        raise ValueError(f"'arms' must name a treatment besides the control (got {[*arms]})")
    for name in latency or {}:
        if name not in arms:
            raise ValueError(f"'latency' must name arms, {[*arms]} (got {name!r})")
