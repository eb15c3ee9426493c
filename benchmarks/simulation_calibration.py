"""How often the tests of simulated experiments are right, for ``simulation.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import t
from torch import Tensor

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.study.simulation import (
    FixedLists,
    PlackettLuce,
    Policy,
    PositionBias,
    Ratio,
    TasteWorld,
    expected_clicks,
    fit_click_rates,
    interleaving_test,
    serve,
    team_draft,
)
from pyg_kd.study.simulation.ab import ab_tests
from pyg_kd.study.simulation.click_rates import predictions
from pyg_kd.study.simulation.off_policy import estimate, importance_weights
from pyg_kd.study.simulation.power import rate_of
from pyg_kd.study.simulation.visitors import draw_visitors, totals

#: Experiments, and visitors or visits in each.
RUNS, PER_RUN = 2_000, 400
K = 10
CLICKS = PositionBias(eta=1.0)


def calibration() -> dict[str, Any]:
    data = SyntheticInteractions(num_users=400, num_items=100, num_edges=4_000, num_groups=8)[0]
    world, rng = (
        TasteWorld.from_data(data, attraction_power=0.25, readiness_spread=0.6),
        torch.Generator().manual_seed(0),
    )
    best = world.ideal_lists(K)
    worse = torch.cat([best[:, 1:], best[:, :1]], 1)
    rows = {**_tests(world, worse, best, rng), **_interleaved(world, worse, rng)}
    return {**rows, **_estimates(world, best, rng)}


def _tests(world: TasteWorld, worse: Tensor, best: Tensor, rng: torch.Generator) -> dict[str, Any]:
    policies = {"control": FixedLists(worse), "treatment": FixedLists(best)}
    mean = {n: float(expected_clicks(world, p, CLICKS).mean()) for n, p in policies.items()}
    difference = mean["treatment"] - mean["control"]
    truths = {"A/B": 3 * difference, "ratio": difference, "lift": difference / mean["control"]}
    found: dict[str, list[Any]] = {}
    for _ in range(RUNS // 100):
        arms = {
            name: _visitors(world, policies["control"], policy, rng)
            for name, policy in {**policies, "again": policies["control"]}.items()
        }
        for name, other in (("alike", "again"), ("known lift", "treatment")):
            for kind, result in _kinds(arms["control"], arms[other]).items():
                found.setdefault(f"{name}: {kind}", []).append(result)
    rows = {}
    for name, parts in found.items():
        joined = {f: np.concatenate([getattr(p, f) for p in parts]) for f in parts[0]._fields}
        truth = truths["ratio" if "per visit" in name else "A/B"]
        if "alike" in name:
            rows[name] = rate_of(int((joined["p_value"] < 0.05).sum()), RUNS)._asdict()
            continue
        inside = (joined["low"] <= truth) & (truth <= joined["high"])
        rows[name] = rate_of(int(inside.sum()), RUNS)._asdict()
        inside = (joined["lift_low"] <= truths["lift"]) & (truths["lift"] <= joined["lift_high"])
        rows[f"{name}, relative"] = rate_of(int(inside.sum()), RUNS)._asdict()
        rows[f"{name}, variance removed"] = float(joined["variance_reduction"].mean())
    return rows


def _visitors(
    world: TasteWorld, before: Policy, policy: Policy, rng: torch.Generator
) -> dict[str, np.ndarray]:
    """A hundred experiments' arm of visitors."""
    count = 100 * PER_RUN // 2
    group = draw_visitors(world, count, visits=3.0, generator=rng)
    found = {"visits": group.during, "visits before": group.before}
    for name, served, times in (
        ("now", policy, group.during),
        ("before", before, group.before),
    ):
        visitor = torch.repeat_interleave(times)
        log = serve(world, served, group.user[visitor], clicks=CLICKS, generator=rng)
        found[name] = totals(log.clicks.sum(1), visitor, count)
    return {name: np.asarray(value).reshape(100, -1) for name, value in found.items()}


def _kinds(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, Any]:
    before = a["before"], b["before"]
    now = [Ratio(arm["now"], arm["visits"]) for arm in (a, b)]
    past = [Ratio(arm["before"], arm["visits before"]) for arm in (a, b)]
    return {
        "A/B": ab_tests(a["now"], b["now"]),
        "A/B, CUPED": ab_tests(a["now"], b["now"], covariate=before),
        "clicks per visit": ab_tests(*now),
        "clicks per visit, CUPED": ab_tests(*now, covariate=(past[0], past[1])),
    }


def _interleaved(world: TasteWorld, lists: Tensor, rng: torch.Generator) -> dict[str, Any]:
    """How often identical rankers differ."""
    users = torch.randint(world.num_users, (RUNS * PER_RUN,), generator=rng)
    found: dict[str, int] = {"sign": 0, "t": 0}
    for part in users.split(100 * PER_RUN):
        made = team_draft(lists[part], lists[part], K, generator=rng)
        clicks = CLICKS.sample(world.relevance(part, made.items), rng)
        sides = [side.view(100, PER_RUN).numpy() for side in made.credit(clicks)]
        for test in found:
            p = [interleaving_test(a, b, test=test).p_value for a, b in zip(*sides, strict=True)]
            found[test] += int((np.array(p) < 0.05).sum())
    return {
        f"alike: interleaving, {test} test": rate_of(count, RUNS)._asdict()
        for test, count in found.items()
    }


def _estimates(world: TasteWorld, best: Tensor, rng: torch.Generator) -> dict[str, Any]:
    """How often the true value of a policy lies in the interval of an estimate from a log."""
    pool = torch.cat([best[:, 4:8], best[:, :4]], 1)
    logging, target = PlackettLuce(pool, k=4), PlackettLuce(best[:, :8], k=4, temperature=2.0)
    truth = float(expected_clicks(world, target, CLICKS).mean())
    users = torch.randint(world.num_users, (5_000,), generator=rng)
    model = fit_click_rates(serve(world, logging, users, clicks=CLICKS, generator=rng))
    inside = {name: 0 for name in ("ips", "snips", "dr")}
    effective = []
    for _ in range(RUNS // 100):
        users = torch.randint(world.num_users, (100 * PER_RUN,), generator=rng)
        log = serve(world, logging, users, clicks=CLICKS, generator=rng)
        weight = importance_weights(log, target).numpy().reshape(100, PER_RUN, 4)
        clicks = log.clicks.double().numpy().reshape(100, PER_RUN, 4)
        predicted, base = predictions(log, target, model)
        extra = predicted.reshape(100, PER_RUN, 4), base.reshape(100, PER_RUN)
        effective.append(float((weight.sum(1) ** 2 / (weight**2).sum(1)).min(1).mean()))
        for name in inside:
            value, off = estimate(clicks, weight, name, *(extra if name == "dr" else ()))
            error = np.sqrt((off**2).sum(1) / (PER_RUN - 1) / PER_RUN)
            inside[name] += int((abs(value - truth) <= t.ppf(0.975, PER_RUN - 1) * error).sum())
    rows = {f"known value: {n}": rate_of(count, RUNS)._asdict() for n, count in inside.items()}
    return {**rows, "effective visits of an estimate": float(np.mean(effective))}
