"""Online experiments on a world whose tastes are known: calibration, and a story.

    python benchmarks/simulation.py calibration
    python benchmarks/simulation.py models
    python benchmarks/simulation.py story
    python benchmarks/simulation.py worlds
    python benchmarks/simulation.py feedback

Each part is written to ``results/simulation.json`` beside the others.

* *calibration*: how often users treated alike differ by each test, and how often a known value
  lies in its 95 % interval, over 2,000 experiments each;
* *models*: a teacher (LightGCN of width 64), a student of width 8 distilled from it, the student
  alone and popularity, on a synthetic graph; their lists are kept for the next part;
* *story*: A/B tests, interleaving and off-policy estimates of these beside the truth, with
  latencies measured by ``benchmarks/latency.py`` and several assumptions on what waiting costs;
* *worlds*: models and experiments of the story again, in ten other worlds;
* *feedback*: eight weeks of worlds that the teacher, the student or popularity serves, each
  trained again on the clicks every week, beside one that serves at random.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import RESULTS, table, write
from scipy.stats import t
from simulation_calibration import calibration
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd import SoftLabel, Trainer, evaluate, extract_knowledge
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge.popularity import popular_unseen
from pyg_kd.models import MF, Recommender
from pyg_kd.study.simulation import (
    EpsilonShuffle,
    FixedLists,
    LatencyEffect,
    PositionBias,
    TasteWorld,
    expected_clicks,
    feedback_loop,
    measured_latency,
    missing_support,
    off_policy,
    serve,
    served_lists,
    simulate,
    simulated_power,
)
from pyg_kd.training import CatalogueSoftmax, lightgcn_teacher
from pyg_kd.training.recipes import softmax_temperature
from pyg_kd.transforms import UserSplit

K = 10
SIZE = {"num_users": 2_000, "num_items": 600, "num_edges": 30_000, "num_groups": 24, "seed": 0}
SMALL = {"num_users": 800, "num_items": 300, "num_edges": 10_000, "num_groups": 12, "seed": 0}
EPOCHS, LISTED = 60, 100
CLICKS = PositionBias(eta=1.0)


def world_of(data: HeteroData) -> TasteWorld:
    return TasteWorld.from_data(data, attraction_power=0.25, readiness_spread=0.6)


# The story


def train_models(
    data: HeteroData, *, epochs: int = EPOCHS, seed: int = 0
) -> dict[str, Recommender]:
    """A teacher, a student distilled from it, and the same student alone."""
    train, val, _ = UserSplit(seed=0)(data)
    teacher, trainer = lightgcn_teacher(train, dim=64, seed=seed, progress=False)
    trainer.fit(teacher, train, val_data=val)
    known = extract_knowledge(teacher, train, num_items=LISTED)
    options = {"max_epochs": epochs, "seed": seed, "progress": False, "patience": None}
    options |= {"batch_by": "user", "batch_size": 256, "lr": 0.02, "schedule": "cosine"}
    options |= {"warmup": 0.05, "evaluate_every": 20}
    torch.manual_seed(seed)
    student = MF(known, dim=8, init_std=0.1)
    label = SoftLabel(num_listed=LISTED, own="mask")
    Trainer(**options, base_weight=0.0).fit(
        student, known, val_data=val, distillations=[(label, 1.0)]
    )
    torch.manual_seed(seed)
    alone = MF(train, dim=8, init_std=0.1)
    # Better on validation targets than BPR, and than other temperatures.
    loss = CatalogueSoftmax(temperature=softmax_temperature(train))
    Trainer(**options, loss=loss).fit(alone, train, val_data=val)
    return {"teacher": teacher, "student": student, "student alone": alone}


def listed(
    data: HeteroData, world: TasteWorld, seed: int = 0
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Recall@20 of the models of a graph, and lists of them, of popularity and of the truth."""
    train, _, test = UserSplit(seed=0)(data)
    found = train_models(data, seed=seed)
    recall = {n: evaluate(m, train, test, k=20)["recall@20"] for n, m in found.items()}
    lists = {name: served_lists(model, 60, data=train) for name, model in found.items()}
    lists["popularity"] = popular_unseen(train, torch.arange(SIZE["num_users"]), 60)
    lists["ideal"] = world.ideal_lists(60, train)
    return recall, lists


def models(folder: Path) -> dict[str, Any]:
    data = SyntheticInteractions(**SIZE)[0]
    world = world_of(data)
    recall, lists = listed(data, world)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(lists, folder / "lists.pt")
    value = {
        name: float(expected_clicks(world, FixedLists(of, k=K), CLICKS).mean())
        for name, of in lists.items()
    }
    return {"recall@20": recall, "clicks a visit": value}


def story(folder: Path) -> dict[str, Any]:
    data = SyntheticInteractions(**SIZE)[0]
    world = world_of(data)
    pools = torch.load(folder / "lists.pt")
    lists = {name: of[:, :K] for name, of in pools.items()}
    return {
        "experiments": _experiments(world, lists),
        "power": _power(world, lists),
        "off-policy": _off_policy(world, pools),
        "latency": _latency(world, lists),
    }


def worlds() -> dict[str, Any]:
    """What the experiments find in other worlds, by seed."""
    found = {}
    for seed in range(1, 11):
        data = SyntheticInteractions(**{**SIZE, "seed": seed})[0]
        world = world_of(data)
        recall, lists = listed(data, world, seed)
        firsts = {name: of[:, :K] for name, of in lists.items()}
        found[str(seed)] = {"recall@20": recall, **_experiments(world, firsts, seed)}
        print(f"world {seed}: {recall}", flush=True)
    return found


def _experiments(world: TasteWorld, lists: dict[str, Tensor], seed: int = 0) -> dict[str, Any]:
    arms = {n: lists[n] for n in ("student alone", "student", "teacher", "popularity")}
    found = simulate(
        world, arms, control="student alone", k=K, visitors=20_000, clicks=CLICKS, seed=seed
    )
    rows = {}
    for one in found.outcomes:
        row: dict[str, Any] = {"true lift": one.true_lift, "shared": one.shared}
        for kind in ("plain", "cuped", "ratio"):
            test = getattr(one, kind)
            row[kind] = {"lift": test.lift, "interval": test.lift_interval, "p": test.p_value}
        row["variance removed"] = one.cuped.variance_reduction
        row["interleaving"] = one.interleaving._asdict()
        rows[one.name] = {**row, "needed": one.needed}
    return rows


def _power(world: TasteWorld, lists: dict[str, Tensor]) -> dict[str, Any]:
    """How often experiments of some sizes find that the student is better than alone."""
    arms = {n: lists[n] for n in ("student alone", "student")}
    one = simulate(
        world, arms, control="student alone", k=K, visitors=40_000, clicks=CLICKS, seed=1
    )
    m = one.outcomes[0].measured
    sides = ~m.treated, m.treated
    values = [m.clicks[side] for side in sides]
    before = m.before[sides[0]], m.before[sides[1]]
    gain = m.credit[:, 1] - m.credit[:, 0]
    rng, rows = np.random.default_rng(0), {}
    for users in (100, 200, 500, 1_000, 2_000, 5_000, 10_000):
        drawn = gain[rng.integers(len(gain), size=(1_000, users))]
        error = drawn.std(1, ddof=1) / users**0.5
        hits = np.abs(drawn.mean(1)) > t.ppf(0.975, users - 1) * error
        rows[str(users)] = {
            "A/B": simulated_power(*values, users).value,
            "A/B, CUPED": simulated_power(*values, users, covariate=before).value,
            "interleaving": float(hits.mean()),
        }
    return rows


def _off_policy(world: TasteWorld, pools: dict[str, Tensor]) -> dict[str, Any]:
    """The student and the teacher estimated from logs of the student alone, which explores."""
    rng = torch.Generator().manual_seed(2)
    users = torch.randint(world.num_users, (200_000,), generator=rng)
    rows: dict[str, Any] = {}
    for depth in (20, 60):
        logging = EpsilonShuffle(pools["student alone"][:, :depth], K, epsilon=0.5)
        log = serve(world, logging, users, clicks=CLICKS, generator=rng)
        for name in ("student alone", "student", "teacher"):
            target = FixedLists(pools[name], k=K)
            row: dict[str, Any] = {
                "truth": float(expected_clicks(world, target, CLICKS).mean()),
                "missing support": missing_support(logging, target),
            }
            for kind in ("ips", "snips", "dr"):
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    result = off_policy(log, target, estimator=kind)
                row[kind] = {"value": result.value, "interval": result.interval}
                row |= {"effective": result.effective, "mean weight": result.mean_weight}
                row["warnings"] = [str(w.message) for w in said]
            rows[f"pool of {depth}: {name}"] = row
    return rows


def _latency(world: TasteWorld, lists: dict[str, Tensor]) -> dict[str, Any]:
    """The true lift of the student over the teacher under assumptions on what waiting costs."""
    path, value = RESULTS / "latency.json", {}
    for name in ("teacher", "student"):
        policy = FixedLists(lists[name])
        value[name] = float(expected_clicks(world, policy, CLICKS).mean())
    listed = {
        n: measured_latency(path, r)
        for n, r in (("teacher", "teacher"), ("student", "student float32"))
    }
    fresh = json.loads(path.read_text())["teacher's propagation, ms"]["fresh"]
    cases = {
        "measured, ranking alone": listed,
        "measured, teacher propagates at each request": {
            **listed,
            "teacher": listed["teacher"] + fresh,
        },
        "made up, teacher 300 ms slower": {**listed, "teacher": listed["student"] + 300},
    }
    rows: dict[str, Any] = {}
    for name, ms in cases.items():
        row: dict[str, Any] = {"milliseconds": ms}
        for share in (0.0, 0.002, 0.006, 0.01, 0.05):
            effect = LatencyEffect(share)
            got = {n: value[n] * effect.stay(ms[n]) for n in value}
            row[f"lift at {share:.1%} per 100 ms"] = got["student"] / got["teacher"] - 1
        rows[name] = row
    return rows


# Feedback


def feedback() -> dict[str, Any]:
    data = SyntheticInteractions(**SMALL)[0]
    world = world_of(data)
    users = torch.arange(world.num_users)

    def at_random(graph: HeteroData, week: int) -> Tensor:
        rng = torch.Generator().manual_seed(week)
        return torch.rand(world.num_users, world.num_items, generator=rng).topk(K).indices

    def trained(name: str) -> Callable[[HeteroData, int], Any]:
        return lambda graph, week: _weekly(graph, name)

    serving = {
        "teacher": trained("teacher"),
        "student": trained("student"),
        "popularity": lambda graph, week: popular_unseen(graph, users, K),
        "random": at_random,
        "ideal": lambda graph, week: world.ideal_lists(K, graph),
    }
    rows = {}
    for name, source in serving.items():
        start = time.process_time()
        weeks = feedback_loop(world, data, source, weeks=8, k=K, clicks=CLICKS, visit=0.5)
        rows[name] = [week._asdict() for week in weeks]
        print(name, round(time.process_time() - start), "CPU seconds", flush=True)
    return rows


def _weekly(graph: HeteroData, name: str) -> Recommender:
    """What a service would train again: the teacher, or the teacher and its student."""
    teacher, trainer = lightgcn_teacher(graph, dim=32, max_epochs=12, progress=False)
    trainer.fit(teacher, graph)
    if name == "teacher":
        return teacher
    known = extract_knowledge(teacher, graph, num_items=LISTED)
    torch.manual_seed(0)
    student = MF(known, dim=8, init_std=0.1)
    options = {"batch_by": "user", "batch_size": 256, "lr": 0.02, "base_weight": 0.0}
    label = SoftLabel(num_listed=LISTED, own="mask")
    Trainer(max_epochs=15, progress=False, **options).fit(
        student, known, distillations=[(label, 1.0)]
    )
    return student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["calibration", "models", "story", "worlds", "feedback"])
    parser.add_argument("--out", type=Path, default=Path("runs/simulation"), help="where lists are")
    args = parser.parse_args()
    start = time.process_time()
    if args.part in ("models", "story"):
        found = {"models": models, "story": story}[args.part](args.out)
    else:
        parts = {"calibration": calibration, "worlds": worlds, "feedback": feedback}
        found = parts[args.part]()
    path = RESULTS / "simulation.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept.pop("machine", None)
    seconds = {**kept.pop("CPU seconds", {}), args.part: round(time.process_time() - start, 1)}
    write("simulation", {**kept, args.part: found, "CPU seconds": seconds})
    if args.part == "calibration":
        rows = [[n, v if isinstance(v, float) else v["value"]] for n, v in found.items()]
        table(["what", "rate"], rows)


if __name__ == "__main__":
    main()
