"""What ``compress`` reaches: its students beside its teachers, at full and at integer precision.

    python benchmarks/compress.py citeulike --root DIR --seeds 5
    python benchmarks/compress.py gowalla --root DIR
    python benchmarks/compress.py movielens-100k --root DIR
    python benchmarks/compress.py citeulike --root DIR --seeds 5 --model lightgcn

Everything is chosen on validation targets, and the test targets are read once for every row.
CiteULike is the leave-one-out split of DE-RRD (DIR holds ``loo/``), Gowalla the LightGCN split with
a fifth of the training edges of a tenth of its users to validate on, and MovieLens-100K is split
70/10/20 for every user. A row is the mean over the seeds, each with teachers and a student of its
own; p is of the paired test over users, of means over seeds, against the teacher that was best on
validation. Bytes are of both tables, by the rows of users and items together. With ``--lists`` the
lists of the teachers, and the rows of every seed, are kept in a folder, so that a run that was
interrupted goes on; those of a teacher without anything random are made once for all seeds. The
student is a matrix factorisation, or a LightGCN of one layer, whose propagated vectors are served.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from report import RESULTS, table, write
from scipy.stats import ttest_1samp

from pyg_kd import compress, evaluate, extract_knowledge
from pyg_kd.datasets import CiteULike, Gowalla, MovieLens100K
from pyg_kd.evaluation import PerUser, compare
from pyg_kd.graph import interactions
from pyg_kd.knowledge import Listed, load_knowledge, save_knowledge
from pyg_kd.models import MF, LightGCN, Recommender
from pyg_kd.retrieval import tables_at
from pyg_kd.retrieval.seen import Seen
from pyg_kd.training import train_ensemble, validate
from pyg_kd.training.ensemble import LISTED
from pyg_kd.training.teachers import FACTORISATIONS, auto_teachers, train_teacher
from pyg_kd.transforms import UserSplit

#: Teachers that depend on a seed.
RANDOM = ("als", "lightgcn")

#: Students by the name of their option.
STUDENTS = {"mf": MF, "lightgcn": partial(LightGCN, num_layers=1)}

SHOWN = ("recall@20", "recall@50", "ndcg@20")


def graphs(name: str, root: str) -> list[Any]:
    """Training, validation and test graph."""
    if name == "citeulike":
        return list(CiteULike(root, split="leave_one_out"))
    if name == "gowalla":
        return list(UserSplit(val=0.2, test=0.2, seed=0, val_users=0.1)(Gowalla(root)[0]))
    return list(UserSplit(val=0.1, test=0.2, seed=0)(MovieLens100K(root)[0]))


def at(student: Recommender, train: Any, dtype: str) -> tuple[Recommender, float]:
    """A student with its tables as they are served at a precision, and their bytes for a row."""
    with torch.no_grad():
        x = student(train)
    seen = interactions(train).by_user()
    seen = Seen(seen.ptr.numpy(), seen.col.numpy(), student.num_items)
    user, item = tables_at(*(x[key].detach().numpy() for key in ("user", "item")), dtype, seen)
    wide = (torch.from_numpy(table.block(0, len(table)).copy()) for table in (user, item))
    size = (user.nbytes + item.nbytes) / (len(user) + len(item))
    return Recommender.from_embeddings(train, *wide), size


def rows_of(args: argparse.Namespace, split: list[Any], seed: int) -> dict[str, dict[str, Any]]:
    """Every row's metrics of each user: from the folder, where a run before has left them there."""
    name = f"{args.data}-rows-{args.model}-{args.dim}-{args.epochs or 'all'}-{seed}.pt"
    path = args.lists and args.lists / name
    if path and path.exists():
        kept = torch.load(path, weights_only=True)
        return {name: {**row, "test": PerUser(**row["test"])} for name, row in kept.items()}
    rows = one_seed(args, split, seed)
    if path:
        torch.save({n: {**row, "test": row["test"]._asdict()} for n, row in rows.items()}, path)
    return rows


def one_seed(args: argparse.Namespace, split: list[Any], seed: int) -> dict[str, dict[str, Any]]:
    """Every row's metrics of each user, by name."""
    train, val, test = split
    rows, names = {}, auto_teachers(train)
    given, costs = zip(
        *(lists_of(args, train, val, names, place, seed) for place in range(len(names))),
        strict=True,
    )
    started = time.process_time() - sum(costs)
    found = train_ensemble(train, val, teachers=list(given), metric=args.metric, progress=False)
    student, _ = compress(
        train, val, dim=args.dim, model=STUDENTS[args.model], teachers=[found.graph],
        metric=args.metric, seed=seed, epochs=args.epochs, progress=False,
    )  # fmt: skip
    seconds = time.process_time() - started
    for place, (name, graph) in enumerate(zip(names, given, strict=True)):
        test_metrics = measure(Listed(graph), train, test)
        value = found.report.rows[place].value
        rows[als(place) if name == "als" else name] = {"val": value, "test": test_metrics}
    weights = [weight for _, weight in found.report.weights]
    lists = measure(Listed(found.graph), train, test)
    rows["ensemble"] = {"val": found.report.value("ensemble"), "test": lists, "weights": weights}
    for dtype in ("float32", "int8", "int4"):
        narrow, size = at(student, train, dtype)
        chosen = validate(narrow, train, val, args.metric)[args.metric]
        metrics = measure(narrow, train, test)
        rows[f"student, {dtype}"] = {"val": chosen, "test": metrics, "bytes a row": size}
    rows["student, float32"]["seconds"] = seconds
    return rows


def lists_of(
    args: argparse.Namespace, train: Any, val: Any, names: list[Any], place: int, seed: int
) -> tuple[Any, float]:
    """A graph with the lists of one of the teachers, and the processor seconds that they took."""
    own = 10 * seed if names[place] in RANDOM else 0  # places are added to it
    path = args.lists and args.lists / f"{args.data}-{names[place]}-{place}-{own}.safetensors"
    if path and path.exists():
        return load_knowledge(path, train), json.loads(path.with_suffix(".json").read_text())
    started = time.process_time()
    options: dict[str, Any] = {"metric": args.metric, "progress": False}
    model = train_teacher(names[place], train, val, place=place, seed=own, **options)
    graph = extract_knowledge(model, train, num_items=min(LISTED, train["item"].num_nodes))
    seconds = time.process_time() - started
    for node_type in ("user", "item"):
        graph[node_type].pop("teacher_x", None)
    if path:
        path.with_suffix(".json").write_text(json.dumps(seconds))
        save_knowledge(graph, path)
    return graph, seconds


def als(place: int) -> str:
    """The name of the factorisation at a place of the teachers."""
    alpha, penalty = FACTORISATIONS[place % len(FACTORISATIONS)]
    return f"ALS, confidence {alpha:g}, penalty {penalty:g}"


def measure(model: Recommender, train: Any, test: Any) -> Any:
    """Metrics of every user."""
    return evaluate(model, train, test, k=(20, 50), metrics=("recall", "ndcg"), per_user=True)


def summary(runs: list[dict[str, dict[str, Any]]], metric: str) -> dict[str, dict[str, Any]]:
    """Means over the seeds, and tests against the teacher that validation prefers."""
    singles = [n for n in runs[0] if n != "ensemble" and not n.startswith("student")]
    best = max(singles, key=lambda name: mean(run[name]["val"] for run in runs))
    rows: dict[str, dict[str, Any]] = {}
    for name, first in runs[0].items():
        means = [run[name]["test"].mean for run in runs]
        row: dict[str, Any] = {"seeds": len(runs), "val": mean(run[name]["val"] for run in runs)}
        for shown in SHOWN:
            values = [m[shown] for m in means]
            row[shown] = mean(values)
            row[f"{shown} sd"] = stdev(values) if len(values) > 1 else None
        for extra in ("bytes a row", "weights", "seconds"):
            if extra in first:
                row[extra] = (
                    [run[name][extra] for run in runs] if extra != "bytes a row" else first[extra]
                )
        rows[name] = row
    tests: dict[str, dict[str, Any]] = defaultdict(dict)
    for shown in SHOWN:
        students = {n: [r[n]["test"] for r in runs] for n in runs[0] if n.startswith("student")}
        baseline = [run[best]["test"] for run in runs]
        for name, found in compare(baseline, students, shown).items():
            tests[name][shown] = {
                "difference": found.difference, "interval": found.interval, "p": found.adjusted,
                "p over seeds": over_seeds(baseline, students[name], shown),
            }  # fmt: skip
    for name, found in tests.items():
        rows[name]["against"] = {"teacher": best, **found}
    return rows


def over_seeds(baseline: list[Any], students: list[Any], metric: str) -> float | None:
    """p of the paired t-test over seeds, not over users; ``None`` for fewer than three."""
    gains = [b.mean[metric] - a.mean[metric] for a, b in zip(baseline, students, strict=True)]
    return float(ttest_1samp(gains, 0).pvalue) if len(gains) > 2 else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=["citeulike", "gowalla", "movielens-100k"])
    parser.add_argument("--root", required=True)
    parser.add_argument("--dim", type=int, default=20)
    parser.add_argument("--model", choices=STUDENTS, default="mf", help="the student")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--metric", default=None, help="default: recall@50 on CiteULike, else @20")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lists", type=Path, help="folder for lists of teachers")
    args = parser.parse_args()
    if args.lists:
        args.lists.mkdir(parents=True, exist_ok=True)
    args.metric = args.metric or ("recall@50" if args.data == "citeulike" else "recall@20")
    split, runs = graphs(args.data, args.root), []
    for seed in range(args.seeds):
        runs.append(rows_of(args, split, seed))
        print(f"seed {seed} done", flush=True)
    rows = summary(runs, args.metric)
    header = ["model", "val", *SHOWN, "bytes a row"]
    table(header, [[n, *(r.get(c) if r.get(c) is not None else "-" for c in header[1:])]
                   for n, r in rows.items()])  # fmt: skip
    path = RESULTS / "compress.json"
    before = json.loads(path.read_text())["data"] if path.exists() else {}
    given = {"dim": args.dim, "metric": args.metric, "epochs": args.epochs}
    name = args.data if args.epochs is None else f"{args.data}, {args.epochs} epochs"
    if args.model != "mf":
        name, given = f"{name}, LightGCN as student", {**given, "model": args.model}
    write("compress", {"data": {**before, name: {"options": given, "rows": rows}}})


if __name__ == "__main__":
    main()
