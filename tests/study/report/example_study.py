"""A study by hand: two worlds, a teacher, a student alone, and methods of known effect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from pyg_kd.evaluation import PerUser
from pyg_kd.study import Record, Results
from pyg_kd.study.records import digest

METRICS = ("recall@20", "ndcg@20")
#: What each row adds to the student alone.
EFFECTS = {
    "teacher": 0.06,
    "student alone": 0.0,
    "DE": 0.03,
    "HTD + RRD": 0.05,
    "RRD": 0.001,
    "SoftLabel, whole catalogue": 0.08,
    "popularity in place of the teacher": -0.02,
}


def values(effect: float, seed: int, num_users: int) -> PerUser:
    user = np.random.default_rng(0).random(num_users) * 0.4
    rng = np.random.default_rng([seed, int(1e6 * (1 + effect))])
    luck = 0.002 * rng.standard_normal()
    found = {
        name: torch.from_numpy(
            scale * (user + effect + luck + 0.05 * rng.standard_normal(num_users))
        )
        for name, scale in zip(METRICS, (1.0, 0.6), strict=True)
    }
    means = {name: float(v.mean()) for name, v in found.items()}
    return PerUser(means, found, torch.arange(num_users))


def record(world: str, method: str, seed: int) -> Record:
    teacher = method == "teacher"
    recipe = {"method": method, "seed": seed, "world": world}
    key = digest(recipe)
    place = list(EFFECTS).index(method)
    return Record(
        key,
        "demo",
        "movielens",
        world,
        method,
        seed,
        "teacher" if teacher else "student",
        setting={} if teacher else {"weight": 0.01 * (1 + place), "trainer.weight_decay": 1e-3},
        recipe=recipe,
        versions={"python": "3.11", "torch": "2.13"},
        hardware={"processor": "some processor", "cores": 2, "threads": 1},
        seconds=30.0 + 10 * place + seed,
        cpu_seconds=20.0 * (1 + place) + seed,
        peak_bytes=600_000_000 + 1000 * seed,
        size_bytes=2_000_000 if teacher else 200_000,
        epochs=40,
        validation=0.2,
        fingerprints={"data": "ab" * 32, "train": "cd" * 32, "knowledge": "ef" * 32},
        command=f"pyg-kd study demo.yaml --run {key}",
        measures={"latency ms": 0.1 * (1 + place)},
    )


def write_study(
    folder: Path,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    num_users: int = 300,
    worlds: tuple[str, ...] = ("mf", "lightgcn"),
    effects: dict[str, float] | None = None,
    **about: object,
) -> Results:
    effects = effects or EFFECTS
    head = {
        "format": "pyg_kd.study.1",
        "name": "demo",
        "baseline": "student alone",
        "datasets": ["movielens"],
        "worlds": list(worlds),
        "methods": list(effects),
        "config": {"name": "demo", "metric": "ndcg@20", "seeds": list(seeds)},
        **about,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(head))
    for world in worlds:
        for method, effect in effects.items():
            for seed in seeds[:1] if method == "teacher" else seeds:
                made = record(world, method, seed)
                edges = ["weight"] if method == "RRD" else []
                search = {"trials": 3, "values": {}, "edges": edges}
                made.tested(folder / "runs" / made.key, values(effect, seed, num_users), search)
    return Results(folder)
