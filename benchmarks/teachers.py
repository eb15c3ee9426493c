"""Teachers at published strength: accuracy, processor seconds and bytes, and their best ensemble.

    python benchmarks/teachers.py gowalla --root DIR --lists DIR
    python benchmarks/teachers.py gowalla --root DIR --lists DIR --only KernelRidge SLIM
    python benchmarks/teachers.py gowalla --root DIR --lists DIR --refit
    python benchmarks/teachers.py yelp2018 --root DIR --lists DIR

Splits are those of ``compress.py``; Yelp2018 and Amazon-Book, whose files are not at hand, are
split as Gowalla is. Settings were chosen on validation targets, and so are the weights of the
ensemble; test targets are read once for every row. The lists of every teacher are kept in a folder,
so that ``--only NAME`` measures some, and ``--only`` alone fuses what is there. ``--refit`` fits
the same teachers, with the same weights, on training and validation edges together, which is what
published figures of the LightGCN splits are of; of several ``--only`` names it also fuses the lists
with equal weights, where nothing is chosen. Seconds are processor seconds of one thread, to fit
and to rank for all users; bytes are of what a model keeps.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from compress import graphs
from report import RESULTS, table, write

from pyg_kd import extract_knowledge
from pyg_kd.datasets import AmazonBook, Yelp2018
from pyg_kd.knowledge import fuse, load_knowledge, save_knowledge
from pyg_kd.knowledge.popularity import popular_unseen
from pyg_kd.metrics.ranking_metrics import hit_matrix, in_sorted, ranking_metrics
from pyg_kd.metrics.ranking_task import ranking_task
from pyg_kd.models import BSPM, EASE, GFCF, MF, SLIM, ItemKNN, KernelRidge, Recommender, UserKNN
from pyg_kd.training import AlternatingLeastSquares
from pyg_kd.training.recipes import lightgcn_teacher
from pyg_kd.transforms import UserSplit

DATA = ("citeulike", "gowalla", "movielens-100k", "yelp2018", "amazon-book")

#: Items that a teacher lists for each user.
LISTED = 500

#: First items of the lists by which the weights of an ensemble are chosen.
HEAD = 100

#: What is measured on test targets.
SHOWN = ("recall@20", "recall@50", "ndcg@20")

#: Options, chosen on validation targets, that are not the default ones: by teacher, and by data.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "ALS": {"": {"dim": 200, "alpha": 40, "regularization": 30},
            "movielens-100k": {"dim": 40, "alpha": 10, "regularization": 30}},
    "ALS, weaker penalty": {"": {"dim": 200, "alpha": 40, "regularization": 10},
                            "movielens-100k": {"dim": 40, "alpha": 10, "regularization": 10}},
    "SLIM": {"movielens-100k": {"shrinkage": 6.0, "user_power": 0.5}},
    "GFCF": {"movielens-100k": {"dim": 60}},
}  # fmt: skip

#: Teachers that are drawn at random, so that seeds differ.
DRAWN = ("ALS", "ALS, weaker penalty", "LightGCN")


def split_of(name: str, root: str) -> list[Any]:
    """Training, validation and test graph."""
    later = {"yelp2018": Yelp2018, "amazon-book": AmazonBook}
    if name in later:
        return list(UserSplit(val=0.02, test=0.2, seed=0)(later[name](root)[0]))
    return graphs(name, root)


def factorised(data: Any, seed: int, *, dim: int, **options: Any) -> Recommender:
    """A matrix factorisation by alternating least squares."""
    als = AlternatingLeastSquares(seed=seed, progress=False, **options)
    return als.fit(MF(data, min(dim, data["user"].num_nodes, data["item"].num_nodes)), data)


def propagated(data: Any, seed: int) -> Recommender:
    """A LightGCN by the recipe of the package, without a look at validation targets."""
    model, trainer = lightgcn_teacher(data, seed=seed, progress=False)
    trainer.fit(model, data)
    return model


TEACHERS: dict[str, Callable[..., Recommender] | None] = {
    "popularity": None,
    "ItemKNN": lambda data, seed, **options: ItemKNN(data, **options),
    "UserKNN": lambda data, seed, **options: UserKNN(data, **options),
    "GFCF": lambda data, seed, **options: GFCF(data, **options),
    "BSPM": lambda data, seed, **options: BSPM(data, **options),
    "EASE": lambda data, seed, **options: EASE(data, **options),
    "KernelRidge": lambda data, seed, **options: KernelRidge(data, **options),
    "SLIM": lambda data, seed, **options: SLIM(data, **options),
    "ALS": factorised,
    "ALS, weaker penalty": factorised,
    "LightGCN": propagated,
}


def measure(lists: torch.Tensor, train: Any, targets: Any, names: tuple[str, ...]) -> Any:
    """Means of metrics like ``"recall@20"`` of the items that neither graph holds."""
    task = ranking_task(train, targets)
    items = lists[task.users].long()
    seen = task.seen.row * task.num_items + task.seen.col
    hidden = in_sorted(seen, task.users.unsqueeze(1) * task.num_items + items) | (items < 0)
    unseen = items.masked_fill(hidden, -1).gather(1, hidden.int().argsort(dim=1, stable=True))
    k = sorted({int(name.split("@")[1]) for name in names})
    hits = hit_matrix(task.users, unseen[:, : k[-1]], task.targets, task.num_items)
    kinds = tuple({name.split("@")[0] for name in names})
    values = ranking_metrics(hits, task.targets.degree[task.users], tuple(k), kinds)
    return {name: float(values[name].mean()) for name in names}


def taught(name: str, data: Any, seed: int, dataset: str) -> tuple[Any, dict[str, Any]]:
    """A graph with a teacher's lists, and what they cost."""
    num_items = min(LISTED, data["item"].num_nodes)
    started, make = time.process_time(), TEACHERS[name]
    if make is None:
        graph = data.clone()
        users = torch.arange(data["user"].num_nodes)
        graph["user"].teacher_items = popular_unseen(data, users, num_items).int()
        seconds = time.process_time() - started
        return graph, {"options": {}, "fit": 0.0, "rank": seconds, "bytes": 0}
    found = OPTIONS.get(name, {})
    options = found.get(dataset, found.get("", {}))
    model = make(data, seed, **options)
    fitted = time.process_time()
    graph = extract_knowledge(model, data, num_items=num_items)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    ranked = time.process_time()
    cost = {"fit": fitted - started, "rank": ranked - fitted, "bytes": size}
    return graph, {"options": options, **cost}


def one_teacher(name: str, args: argparse.Namespace, split: list[Any]) -> dict[str, Any]:
    """The row of a teacher, whose lists are written to the folder."""
    train, val, test = split
    seeds = range(args.seeds if name in DRAWN else 1)
    runs = []
    for seed in seeds:
        graph, cost = taught(name, train, seed, args.data)
        lists = graph["user"].teacher_items
        keep(graph, args, name, seed)
        value = measure(lists, train, val, (args.metric,))
        runs.append({"val": value[args.metric], **measure(lists, train, test, SHOWN), **cost})
    return combined(runs)


def file_of(args: argparse.Namespace, name: str, seed: int) -> Path:
    part = "-refit" if args.refit else ""
    return args.lists / f"{args.data}{part}-{name.replace(', ', '-')}-{seed}.safetensors"


def keep(graph: Any, args: argparse.Namespace, name: str, seed: int) -> None:
    """Write a teacher's lists, without its vectors, to the folder."""
    if TEACHERS[name] is None:
        return
    for node_type in ("user", "item"):
        graph[node_type].pop("teacher_x", None)
    save_knowledge(graph, file_of(args, name, seed))


def combined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds."""
    row: dict[str, Any] = {**runs[0], "seeds": len(runs)}
    for name in {"val", *SHOWN, "fit", "rank"} & runs[0].keys():
        values = [run[name] for run in runs]
        row[name] = mean(values)
        if len(values) > 1 and name not in ("fit", "rank"):
            row[f"{name} sd"] = stdev(values)
    return row


def read(args: argparse.Namespace, data: Any, seed: int) -> dict[str, Any]:
    """The graphs of all teachers whose lists are in the folder."""
    found = {}
    for name in TEACHERS:
        path = file_of(args, name, seed if name in DRAWN else 0)
        if path.exists():
            found[name] = load_knowledge(path, data)
    return found


def head(graph: Any) -> Any:
    """A graph with the beginnings of its lists, by which weights are chosen sooner."""
    graph = copy.copy(graph)
    graph["user"].teacher_items = graph["user"].teacher_items[:, :HEAD].contiguous()
    return graph


def ensemble(args: argparse.Namespace, split: list[Any]) -> dict[str, Any]:
    """The row of the ensemble whose weights validation targets choose."""
    train, val, test = split
    runs = []
    for seed in range(args.seeds):
        found = read(args, train, seed)
        started = time.process_time()
        heads = [head(graph) for graph in found.values()]
        weights = fuse(heads, val_data=val, metric=args.metric).teacher_weights
        graph = fuse([*found.values()], weights, num_items=LISTED)
        seconds = time.process_time() - started
        lists = graph["user"].teacher_items
        runs.append({
            "val": measure(lists, train, val, (args.metric,))[args.metric],
            **measure(lists, train, test, SHOWN),
            "weights": dict(zip(found, weights, strict=True)),
            "fit": seconds, "rank": 0.0,
        })  # fmt: skip
    row = combined(runs)
    row["weights"] = [run["weights"] for run in runs]
    return row


def with_validation(train: Any, test: Any) -> Any:
    """The training graph with all edges but those of the test targets."""
    full = train.clone()
    full["user", "interacts", "item"].edge_index = test["user", "interacts", "item"].edge_index
    return full


def refitted(
    args: argparse.Namespace, split: list[Any], rows: dict[str, Any], known: dict[str, Any]
) -> dict[str, Any]:
    """Test figures of teachers fitted on all edges but those of the test targets.

    What is known, and has its lists in the folder, is not fitted again.
    """
    train, _, test = split
    full = with_validation(train, test)
    found: dict[str, Any] = {}
    for name in args.only or [*TEACHERS]:
        if name in known and file_of(args, name, 0).exists():
            continue
        graph, cost = taught(name, full, 0, args.data)
        lists = graph["user"].teacher_items
        keep(graph, args, name, 0)
        found[name] = {**measure(lists, full, test, SHOWN), **cost}
        print(name, found[name], flush=True)
    chosen = rows["ensemble"]["weights"][0] if "ensemble" in rows else {}
    sets = {"ensemble": {name: weight for name, weight in chosen.items() if weight}}
    if args.only and len(args.only) > 1:
        sets[f"{' + '.join(args.only)}, equal weights"] = dict.fromkeys(args.only, 1.0)
    graphs_of = read(args, full, 0)
    for name, weights in sets.items():
        if weights and all(teacher in graphs_of for teacher in weights):
            used = [graphs_of[teacher] for teacher in weights]
            graph = fuse(used, [*weights.values()], num_items=LISTED)
            lists = graph["user"].teacher_items
            found[name] = {**measure(lists, full, test, SHOWN), "weights": [weights]}
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--root", required=True)
    parser.add_argument("--lists", type=Path, required=True, help="folder for lists of teachers")
    parser.add_argument("--seeds", type=int, default=1, help="of teachers that are random")
    parser.add_argument(
        "--only", nargs="*", choices=TEACHERS, help="default: all; without names: fuse only"
    )
    parser.add_argument("--metric", help="default: recall@50 on CiteULike, else recall@20")
    parser.add_argument("--refit", action="store_true")
    args = parser.parse_args()
    args.metric = args.metric or ("recall@50" if args.data == "citeulike" else "recall@20")
    return args


def main() -> None:
    args = arguments()
    args.lists.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    path = RESULTS / "teachers.json"
    before = json.loads(path.read_text())["data"] if path.exists() else {}
    kept = before.get(args.data, {})
    split, rows = split_of(args.data, args.root), {**kept.get("rows", {})}
    refit = kept.get("refit", {})
    if args.refit:
        refit = {**refit, **refitted(args, split, rows, refit)}
    else:
        for name in TEACHERS if args.only is None else args.only:
            rows[name] = one_teacher(name, args, split)
            print(name, rows[name], flush=True)
        if not args.only:
            rows["ensemble"] = ensemble(args, split)
    rows = {name: rows[name] for name in (*TEACHERS, "ensemble") if name in rows}
    header = ["teacher", "val", *SHOWN, "fit", "rank", "bytes"]
    table(header, [[n, *(r.get(c, "-") for c in header[1:])] for n, r in rows.items()])
    found = {"metric": args.metric, "rows": rows, **({"refit": refit} if refit else {})}
    write("teachers", {"data": {**before, args.data: found}})


if __name__ == "__main__":
    main()
