"""Every method against the student alone: CiteULike, leave-one-out, width 20 from 200.

    python benchmarks/compare_methods.py --root DIR [--worlds mf/bpr mf/als lightgcn/softmax]

DIR holds ``loo/train.txt``, ``valid.txt``, ``test.txt`` of the papers' leave-one-out split, which
has no public address; with ``--split own`` one is drawn from CiteULike, which is downloaded. A
*world* is the student's model and its teacher: matrix factorisation by BPR, implicit ALS (with the
package ``implicit``), LightGCN by sampled softmax.

Protocol: each method, the student alone included, is trained with three settings at the first
seed, and with further ones as long as the best of them is the first or the last; the one with the
best validation Recall@50 is trained with the other seeds; those runs are tested. Combinations take
over the settings of their parts, times one of three factors. All have the weights of the best
validated epoch, and the same number of epochs: but where a loss is over whole users, an epoch is
one over users, and the learning rate and the spread of the first embeddings are larger. Every run
is a process of its own with one thread, kept under ``--out`` with what was run: a stopped
comparison goes on where it was, and a run of another recipe is run again.

The stored results keep every row that isn't among ``--methods``: the teacher, ALS and the student
alone are run beside a method, but only ``--methods "student alone"`` replaces their rows. A row is
never replaced by one with fewer seeds, unless with ``--overwrite``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import torch
from report import RESULTS, machine, table, write
from rows import merged

import pyg_kd as kd
from pyg_kd.datasets import CiteULike
from pyg_kd.evaluation import PerUser, compare, evaluate, evaluate_sampled
from pyg_kd.evaluation.significance import holm
from pyg_kd.knowledge import extract_knowledge, load_knowledge, save_knowledge
from pyg_kd.models import MF, LightGCN, Recommender
from pyg_kd.training import Trainer
from pyg_kd.transforms import LeaveOneOut

METRIC = "recall@50"
SHOWN = ("recall@20", "ndcg@20", "recall@50")
ALONE = "student alone"
#: At the paper's width a run would take an hour and more.
PHR = "PHR, hidden 128"
DIM, TEACHER_DIM = 20, 200

Methods = list[tuple[kd.Distillation, float]]
#: The runs of each method, by seed.
Rows = dict[str, dict[int, dict[str, Any]]]


class Recipe(NamedTuple):
    """A method: what is distilled at each of its settings, and how the trainer differs."""

    make: Callable[[float], Methods]
    settings: Sequence[float]
    trainer: Callable[[float], dict[str, Any]] = lambda setting: {}


def by_user(own: float) -> dict[str, Any]:
    """The trainer of a loss over whole users that needs no base loss."""
    return {
        "batch_by": "user", "batch_size": 512, "lr": 0.01, "weight_decay": 0.0, "base_weight": 0.0,
    }  # fmt: skip


def recipes(scale: float, grids: dict[str, Sequence[float]], **users: int) -> dict[str, Recipe]:
    """All methods; ``scale`` and ``grids`` belong to the base loss.

    ``users`` are further options of the trainer where batches are of users.
    """

    def rrd() -> kd.Distillation:
        tail = 40 if scale == 1 else 200
        return kd.RelaxedRankingDistillation(scale=scale, num_uninteresting=tail)

    def ir_rrd(weight: float) -> Methods:
        return [
            (rrd(), weight),
            (kd.ItemSideRankingRegularization(scale=scale), weight / 2),
        ]

    def weighted(name: str, make: Callable[[], kd.Distillation]) -> Recipe:
        return Recipe(lambda weight: [(make(), weight)], grids[name])

    return {
        ALONE: Recipe(lambda _: [], grids[ALONE], lambda decay: {"weight_decay": decay}),
        "FitNet": weighted("FitNet", lambda: kd.HintRegression()),
        "DE": weighted("DE", lambda: kd.DistillationExperts()),
        PHR: weighted(PHR, lambda: kd.PersonalizedHintRegression(hidden=128)),
        "PCKD": weighted("PCKD", lambda: kd.PreferenceConsistentDistillation()),
        "FreqD": weighted("FreqD", lambda: kd.FrequencyDistillation()),
        "FTD": weighted("FTD", lambda: kd.TopologyDistillation(mode="full")),
        "HTD": weighted("HTD", lambda: kd.TopologyDistillation()),
        "RD": weighted("RD", lambda: kd.RankingDistillation(scale=scale)),
        "CD": weighted("CD", lambda: kd.CollaborativeDistillation(scale=scale)),
        "RRD": weighted("RRD", rrd),
        "IR-RRD": Recipe(ir_rrd, grids["IR-RRD"]),
        "DCD": weighted("DCD", lambda: kd.DualCorrection(scale=scale)),
        "UnKD": weighted("UnKD", lambda: kd.UnbiasedDistillation(scale=scale)),
        "RCE-KD": weighted("RCE-KD", lambda: kd.RejuvenatedCrossEntropy(scale=scale)),
        SOFT_LABEL: Recipe(
            lambda own: [(kd.SoftLabel(own_weight=own), 1.0)],
            (0.3, 0.5, 1.0),
            lambda own: by_user(own) | users,
        ),
        f"DE + {SOFT_LABEL}": Recipe(
            lambda w: [(kd.SoftLabel(own_weight=0.3), 1.0), (kd.DistillationExperts(), w)],
            (0.03, 0.1, 0.3),
            by_user,
        ),
        f"FTD + {SOFT_LABEL}": Recipe(
            lambda w: [(kd.SoftLabel(own_weight=0.3), 1.0), (kd.TopologyDistillation("full"), w)],
            (3e-4, 1e-3, 3e-3),
            by_user,
        ),
        f"RCE-KD + {SOFT_LABEL}": Recipe(
            lambda w: [(kd.SoftLabel(own_weight=0.3), 1.0), (kd.RejuvenatedCrossEntropy(), w)],
            (0.3, 1.0, 3.0),
            by_user,
        ),
        # The same loss with next to nothing of the teacher: what the loss itself brings.
        "softmax of the whole catalogue, no teacher": Recipe(
            lambda _: [(kd.SoftLabel(own_weight=1e6), 1e-6)],
            (1e-2, 3e-2, 6e-2),
            lambda decay: by_user(0) | {"weight_decay": decay},
        ),
    }


SOFT_LABEL = "SoftLabel, whole catalogue"
COMBINATIONS = {
    "HTD + RRD": ("HTD", "RRD"),
    "DE + RRD": ("DE", "RRD"),
    "PHR + IR-RRD": (PHR, "IR-RRD"),
    "FTD + IR-RRD": ("FTD", "IR-RRD"),
    "HTD + IR-RRD": ("HTD", "IR-RRD"),
    "DE + IR-RRD": ("DE", "IR-RRD"),
    "DE + RCE-KD": ("DE", "RCE-KD"),
}
#: What the weights of a combination are multiplied by.
FACTORS = (1.0, 0.5, 0.25)


class World(NamedTuple):
    """A student, the name of its teacher, how it is trained, and what is distilled."""

    model: Callable[..., Recommender]
    teacher: str
    options: dict[str, Any]
    recipes: dict[str, Recipe]


BPR = {"batch_size": 1024, "loss": "bpr", "lr": 3e-3, "weight_decay": 1e-3, "patience": None}
SHORT = BPR | {"max_epochs": 40, "evaluate_every": 5}
# Five times the epochs: what is left of the gains once the student alone has converged?
LONG = BPR | {"max_epochs": 200, "evaluate_every": 10}
SOFTMAX = {"batch_size": 2048, "loss": "sampled_softmax", "lr": 0.01, "patience": None}
SOFTMAX |= {"evaluate_every": 3, "max_epochs": 24}
#: Teachers that are trained here: their model and their trainer.
TEACHERS: dict[str, tuple[Callable[..., Recommender], dict[str, Any]]] = {
    "bpr": (MF, BPR | {"lr": 1e-3, "max_epochs": 100, "evaluate_every": 5}),
    "lightgcn": (LightGCN, SOFTMAX | {"max_epochs": 15}),
}
# Weights of one loss say little about another's: RD, CD and RCE-KD sum to about one a user, RRD
# and DCD over forty places.
BPR_GRIDS: dict[str, Sequence[float]] = {
    ALONE: (1e-3, 3e-3, 1e-2),  # of weight decay
    **dict.fromkeys(("FitNet", "DE", PHR, "PCKD"), (3e-3, 1e-2, 3e-2)),
    "FreqD": (0.1, 0.3, 1.0),
    "FTD": (1e-4, 3e-4, 1e-3),
    **dict.fromkeys(("HTD", "RRD", "IR-RRD", "DCD", "UnKD"), (1e-3, 3e-3, 1e-2)),
    "RD": (0.1, 1.0, 10.0),
    "CD": (0.1, 0.3, 1.0),
    "RCE-KD": (10.0, 30.0, 100.0),
}
SOFTMAX_GRIDS = BPR_GRIDS | {
    ALONE: (0.0, 1e-6, 1e-5),
    "DE": (3e-2, 9e-2, 0.27),
    **dict.fromkeys((PHR, "PCKD"), (3e-2, 1e-1, 0.3)),
    "HTD": (1e-2, 3e-2, 1e-1),
    **dict.fromkeys(("RRD", "UnKD"), (0.1, 0.3, 1.0)),
    **dict.fromkeys(("IR-RRD", "DCD"), (1e-3, 1e-2, 1e-1)),
    "RD": (0.01, 0.1, 1.0),
}
BPR_RECIPES = recipes(1.0, BPR_GRIDS)
# An epoch of users takes 0.3 of the time of one of interactions.
SOFTMAX_RECIPES = recipes(10.0, SOFTMAX_GRIDS, max_epochs=80)
WORLDS = {
    "mf/bpr": World(MF, "bpr", SHORT, BPR_RECIPES),
    "mf/bpr, 200 epochs": World(MF, "bpr", LONG, BPR_RECIPES),
    # Do methods whose products run in half precision bring the same?
    "mf/bpr, bfloat16": World(MF, "bpr", SHORT | {"precision": "bf16-mixed"}, BPR_RECIPES),
    "mf/als": World(MF, "als", SHORT, BPR_RECIPES),
    "mf/als, 200 epochs": World(MF, "als", LONG, BPR_RECIPES),
    "lightgcn/softmax": World(LightGCN, "lightgcn", SOFTMAX, SOFTMAX_RECIPES),
    # The same teacher, with the one thing changed and with the other: is it the student's
    # propagation or its base loss that decides what a method brings?
    "mf/softmax": World(partial(MF, init_std=0.1), "lightgcn", SOFTMAX, SOFTMAX_RECIPES),
    "lightgcn/bpr": World(LightGCN, "lightgcn", SHORT, BPR_RECIPES),
    "mf/bpr, lightgcn": World(MF, "lightgcn", SHORT, BPR_RECIPES),
}


def als(train: Any, dim: int, seed: int) -> Recommender:
    """Implicit alternating least squares, by the package ``implicit``."""
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    edge_index = train["user", "item"].edge_index.numpy()
    sizes = (train["user"].num_nodes, train["item"].num_nodes)
    seen = csr_matrix(([1.0] * edge_index.shape[1], tuple(edge_index)), shape=sizes)
    model = AlternatingLeastSquares(
        factors=dim,
        alpha=40.0,
        regularization=10.0,
        iterations=15,
        random_state=seed,
        num_threads=1,
    )
    model.fit(seen, show_progress=False)
    return Recommender.from_embeddings(train, model.user_factors, model.item_factors)


def train_teacher(world: World, train: Any, val: Any, seed: int) -> Recommender:
    """The teacher of a world."""
    if world.teacher == "als":
        return als(train, TEACHER_DIM, seed)
    model, options = TEACHERS[world.teacher]
    torch.manual_seed(seed)
    teacher = model(train, dim=TEACHER_DIM)
    trainer = Trainer(seed=seed, metric=METRIC, progress=False, **options)
    trainer.fit(teacher, train, val_data=val)
    return teacher


def knowledge(world: World, train: Any, val: Any, seed: int, out: Path) -> Any:
    """What the teacher of a seed knows, from ``out`` where it was trained before."""
    path = out / f"{world.teacher}-{seed}.safetensors"
    if not path.exists():
        teacher = train_teacher(world, train, val, seed)
        graph = extract_knowledge(teacher, train, num_items=500, num_users=200)
        save_knowledge(graph, path)
    return load_knowledge(path, train)


def one_run(args: argparse.Namespace) -> None:
    """One process: one model, trained and tested, written to ``args.out``."""
    torch.set_num_threads(1)
    world_name, name, settings, seed = json.loads(args.run)
    world = WORLDS[world_name]
    if args.split == "own":
        train, val, test = LeaveOneOut(seed=0)(CiteULike(args.root)[0])
    else:
        train, val, test = CiteULike(args.root, split="leave_one_out")
    row: dict[str, Any] = {"recipe": recipe_text(world, name, settings)}
    if name == "teacher":
        graph = knowledge(world, train, val, seed, args.out)
        model = Recommender.from_embeddings(train, graph["user"].teacher_x, graph["item"].teacher_x)
    elif name.startswith("ALS"):
        start = time.perf_counter()
        model = als(train, int(name.split()[1]), seed)
        row["seconds in all"] = time.perf_counter() - start
    else:
        graph = knowledge(world, train, val, seed, args.out)
        methods, options, start_at = ingredients(world, name, settings)
        torch.manual_seed(seed)
        model = world.model(graph, dim=DIM, **start_at)
        start = time.perf_counter()
        history = Trainer(seed=seed, metric=METRIC, progress=False, **options).fit(
            model, graph, val_data=val, distillations=methods
        )
        row |= {
            "validation": max(v for v in history[METRIC] if v == v),
            "best epoch": history.best_epoch,
            "seconds an epoch": median(history["seconds"]),
            "mean seconds an epoch": mean(history["seconds"]),
            "seconds in all": time.perf_counter() - start,
        }
    row["peak GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found: PerUser = evaluate(model, train, test, (10, 20, 50), ("recall", "ndcg"), per_user=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sampled protocol, to be beside published figures
        sampled = evaluate_sampled(model, train, test, (5, 10), ("hit_rate", "ndcg"))
    row |= {"test": found.mean, "sampled": sampled}
    path = run_path(args.out, world_name, name, settings, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({metric: found.values[metric] for metric in SHOWN}, path.with_suffix(".pt"))
    path.write_text(json.dumps(row))


def ingredients(
    world: World, name: str, settings: Sequence[float]
) -> tuple[Methods, dict[str, Any], dict[str, float]]:
    """What is distilled, the trainer's options, and the model's."""
    methods: Methods = []
    options = dict(world.options)
    for part, setting in zip(COMBINATIONS.get(name, (name,)), settings, strict=True):
        recipe = world.recipes[part]
        methods += recipe.make(setting)
        options |= recipe.trainer(setting)
    # A loss over the whole catalogue learns from larger embeddings than BPR does.
    return methods, options, {"init_std": 0.1} if options.get("batch_by") == "user" else {}


def recipe_text(world: World, name: str, settings: Sequence[float]) -> str:
    """By it a run that was kept is told from one that would be another now."""
    if name == "teacher" or name.startswith("ALS"):
        return repr(TEACHERS.get(world.teacher, world.teacher))
    return repr((world.model, world.teacher, *ingredients(world, name, settings)))


def run_path(out: Path, world: str, name: str, settings: Sequence[float], seed: int) -> Path:
    label = "-".join([name.replace(" ", "_").replace(",", ""), *map(str, settings), str(seed)])
    return out / world.replace("/", "-").replace(", ", "-").replace(" ", "-") / f"{label}.json"


class Runner:
    """Runs that are missing, several at a time."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.pool = args, ThreadPoolExecutor(args.jobs)

    def all(self, runs: list[tuple[str, str, tuple[float, ...], int]]) -> list[dict[str, Any]]:
        return list(self.pool.map(self.one, runs))

    def one(self, run: tuple[str, str, tuple[float, ...], int]) -> dict[str, Any]:
        path = run_path(self.args.out, *run)
        row: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if row.get("recipe") == recipe_text(WORLDS[run[0]], *run[1:3]):
            return row
        if self.args.cached:
            return {}
        command = [sys.executable, __file__, "--run", json.dumps(run)]
        command += ["--root", str(self.args.root), "--out", str(self.args.out)]
        command += ["--split", self.args.split]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"{run} failed:\n{done.stderr[-2000:]}", file=sys.stderr, flush=True)
            return {}
        row = json.loads(path.read_text())
        print(run, {k: round(row["test"][k], 4) for k in SHOWN}, row.get("validation"), flush=True)
        return row


def compare_world(name: str, before: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """All rows of a world: those of the methods that are named, the others from ``before``."""
    world, runner, first = WORLDS[name], Runner(args), args.seeds[0]
    teachers = runner.all([(name, "teacher", (), seed) for seed in args.seeds])
    chosen = [m for m in world.recipes if m in args.methods or m == ALONE]
    kept = before.get("validation", {}) if args.validated else {}
    best: dict[str, tuple[float, ...]] = {
        m: tuple(args.known[m]) for m in chosen if m in args.known and not kept.get(m)
    }
    values = Validated(name, runner, first, kept)
    values.add({m: [(x,) for x in world.recipes[m].settings] for m in chosen if m not in best})
    # Until the best value lies between others.
    while further := {
        m: [(x,) for x in more] for m, v in values.found.items() if (more := beyond(v))
    }:
        so_far = len(values)
        values.add(further)
        if len(values) == so_far:  # the runs failed, or are not to be run
            break
    best |= values.best()
    known = {m: tuple(row["settings"]) for m, row in before.get("rows", {}).items()} | best
    values.add(
        {
            combination: [tuple(factor * known[part][0] for part in parts) for factor in FACTORS]
            for combination, parts in COMBINATIONS.items()
            if combination in args.methods and set(parts) <= known.keys()
        }
    )
    best |= values.best()
    final = [(name, m, s, seed) for m, s in best.items() for seed in args.seeds]
    if name in ("mf/bpr", "mf/als"):
        final += [(name, f"ALS {width}", (), s) for width in (20, 64, 200) for s in args.seeds]
    rows: Rows = {"teacher": {s: r for s, r in zip(args.seeds, teachers, strict=True) if r}}
    for run, row in zip(final, runner.all(final), strict=True):
        if row:
            rows.setdefault(run[1], {})[run[3]] = row
    wanted = {*args.methods, *(rows.keys() - best.keys() if ALONE in args.methods else ())}
    found, stay = merged(
        before.get("rows", {}),
        summary(rows, best, name, args.out),
        wanted,
        overwrite=args.overwrite,
    )
    for method, reason in stay.items():
        print(f"{name}: the stored row '{method}' stays, the new one {reason}", flush=True)
    for metric in SHOWN:
        tests = [row[f"{metric} against alone"] for row in found.values() if tested(row)]
        adjusted = holm([test["p_value"] for test in tests])
        for test, value in zip(tests, adjusted, strict=True):
            test["adjusted"] = value
    # In the order of the recipes, whenever they were run.
    order = ["teacher", *world.recipes, *COMBINATIONS]
    found = dict(sorted(found.items(), key=lambda r: [*order, r[0]].index(r[0])))
    show(name, found)
    validated = {m: of for m, of in values.by_label().items() if m not in stay}
    return {"rows": found, "validation": before.get("validation", {}) | validated}


class Validated:
    """The validation values of settings, in one world at one seed."""

    def __init__(self, world: str, runner: Runner, seed: int, kept: dict[str, Any]) -> None:
        self.world, self.runner, self.seed = world, runner, seed
        self.kept = {
            (method, tuple(map(float, label.split("/")))): value
            for method, values in kept.items()
            for label, value in values.items()
        }
        self.found: dict[str, dict[tuple[float, ...], float]] = {}

    def add(self, trials: dict[str, list[tuple[float, ...]]]) -> None:
        """Train methods with some settings, all at once, or take over what was reached before."""
        wanted = [(method, settings) for method, of in trials.items() for settings in of]
        missing = [trial for trial in wanted if trial not in self.kept]
        rows = self.runner.all([(self.world, *trial, self.seed) for trial in missing])
        new = {trial: row["validation"] for trial, row in zip(missing, rows, strict=True) if row}
        for method, settings in wanted:
            value = self.kept.get((method, settings), new.get((method, settings)))
            if value is not None:
                self.found.setdefault(method, {})[settings] = value

    def __len__(self) -> int:
        return sum(map(len, self.found.values()))

    def best(self) -> dict[str, tuple[float, ...]]:
        """The best settings of every method."""
        return {method: max(v, key=v.__getitem__) for method, v in self.found.items()}

    def by_label(self) -> dict[str, dict[str, float]]:
        """All values, settings as text."""
        return {
            method: {"/".join(f"{x:g}" for x in settings): value for settings, value in v.items()}
            for method, v in self.found.items()
        }


def beyond(values: dict[tuple[float, ...], float]) -> list[float]:
    """The next value of a grid, if its best is its first or its last; by its ratio at that end."""
    grid = sorted(setting for (setting,) in values)
    (best,) = max(values, key=values.__getitem__)
    ends = {grid[0]: grid[1], grid[-1]: grid[-2]} if len(grid) > 2 else {}
    return [float(f"{best * best / ends[best]:.2g}")] if best and ends.get(best) else []


def tested(row: dict[str, Any]) -> bool:
    """Whether a row was tested against the student alone."""
    return f"{METRIC} against alone" in row


def summary(
    rows: Rows, best: dict[str, tuple[float, ...]], world: str, out: Path
) -> dict[str, Any]:
    """Means, deviations, tests and cost of the rows that were run.

    A method is compared with the student alone and the teacher of the seeds that it has itself.
    """

    def users(method: str, seeds: Sequence[int], metric: str) -> list[torch.Tensor]:
        paths = [run_path(out, world, method, best.get(method, ()), seed) for seed in seeds]
        return [torch.load(p.with_suffix(".pt"), weights_only=True)[metric] for p in paths]

    def average(method: str, seeds: Sequence[int]) -> float:
        return mean(rows[method][seed]["test"][METRIC] for seed in seeds)

    found = {}
    for method, runs in rows.items():
        seeds = sorted(runs.keys() & rows[ALONE].keys() & rows["teacher"].keys())
        some = [runs[seed] for seed in seeds]
        entry: dict[str, Any] = {"seeds": len(seeds), "settings": best.get(method, ())}
        entry["cpu"] = machine()["cpu"]
        for metric in SHOWN:
            on_test = [r["test"][metric] for r in some]
            entry[metric] = mean(on_test)
            entry[f"{metric} deviation"] = stdev(on_test) if len(on_test) > 1 else None
            if method not in (ALONE, "teacher") and not method.startswith("ALS"):
                both = (users(m, seeds, metric) for m in (ALONE, method))
                test = compare(next(both), {method: next(both)})[method]
                entry[f"{metric} against alone"] = test._asdict()
        low, high = average(ALONE, seeds), average("teacher", seeds)
        entry["gap closed"] = (entry[METRIC] - low) / (high - low)
        entry["sampled"] = {k: mean(r["sampled"][k] for r in some) for k in some[0]["sampled"]}
        epoch = "mean seconds an epoch"
        if epoch in some[0]:
            entry["cost"] = median(runs[s][epoch] / rows[ALONE][s][epoch] for s in seeds)
        for key in (epoch, "seconds in all", "peak GB"):
            if key in some[0]:
                entry[key] = median(r[key] for r in some)
        found[method] = entry
    return found


def show(name: str, rows: dict[str, Any]) -> None:
    """The table of a world."""
    lines = []
    for method, row in rows.items():
        p = row["ndcg@20 against alone"]["adjusted"] if tested(row) else None
        lines.append(
            [method, "/".join(map(str, row["settings"])) or "-"]
            + [f"{row[m]:.4f}±{row[f'{m} deviation'] or 0:.4f}" for m in SHOWN]
            + [f"{100 * row['gap closed']:.0f} %", "-" if p is None else f"{p:.1g}"]
            + [f"{row['cost']:.1f}x" if "cost" in row else "-", row["peak GB"]]
        )
    print(f"\n{name}")
    table(["method", "setting", *SHOWN, "gap closed", "p (Holm)", "cost", "peak GB"], lines)


def main() -> None:
    names = [*BPR_RECIPES, *COMBINATIONS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data") + "/citeulike")
    parser.add_argument("--split", default="papers", choices=["papers", "own"])
    parser.add_argument("--out", type=Path, default=Path("out/compare_methods"))
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--methods", nargs="+", default=names, choices=names, metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--settings-of",
        choices=WORLDS,
        metavar="WORLD",
        help="take over settings of methods, with --validated of those without values",
    )
    parser.add_argument(
        "--validated", action="store_true", help="take over validation values of the results"
    )
    parser.add_argument(
        "--cached", action="store_true", help="tabulate the runs that exist, train nothing"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace stored rows by those of fewer seeds, too"
    )
    parser.add_argument("--run", help="one run, as JSON: used by the script itself")
    args = parser.parse_args()
    if args.run:
        one_run(args)
        return
    name = "compare_methods" if args.split == "papers" else "compare_methods_own_split"
    args.out = args.out / args.split if args.split == "own" else args.out
    args.out.mkdir(parents=True, exist_ok=True)
    results = RESULTS / f"{name}.json"
    stored = json.loads(results.read_text()) if results.exists() else {}
    worlds = stored.get("worlds", {})
    # Rows name their own processor: the machine and the seeds are those of the rows without one.
    head = {"machine": machine() | {"threads": 1}, "seeds": args.seeds} | stored
    known = worlds[args.settings_of]["rows"] if args.settings_of else {}
    args.known = {m: row["settings"] for m, row in known.items()}
    for world in args.worlds:
        worlds[world] = compare_world(world, worlds.get(world, {}), args)
        write(name, head | {"data": "CiteULike, leave-one-out", "worlds": worlds})


if __name__ == "__main__":
    main()
