"""ConCF on CiteULike: do heads improve by teaching each other what they agree on?

    python benchmarks/concf.py --root DIR [--seeds 0 1 2] [--epochs 200]
        [--subset] [--reference]

Users with five items or more, 60/20/20 of each user at random, full ranking. Four models of width
64: BPR as a factorisation, BPR alone in a branch, five objectives in branches, and these with
consensus learning. Of the last two, all heads and their consensus are measured. Weights are those
of the best validated epoch (Recall@50; of the BPR head where there are several).

With ``--reference`` there is one model instead, ConCF with the network and the schedule of the
authors' code, whose results go to a file of their own. With ``--subset`` only users and items with
ten interactions or more remain, counted once: the data of the authors' notebook. There each model
has the best of three weight decays on the validation items of the first seed; without it, the one
that was found there. Runs are kept under ``--out``, so that a stopped comparison can be continued.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
from pathlib import Path
from typing import Any

import torch
from report import RESULTS, table, write
from torch_geometric.data import HeteroData

from pyg_kd import ConsensusLearning
from pyg_kd.datasets import CiteULike, from_interactions
from pyg_kd.evaluation import evaluate
from pyg_kd.functional import interactions
from pyg_kd.models import MF, MultiBranch
from pyg_kd.training import Trainer
from pyg_kd.transforms import UserSplit

DECAYS = (1e-5, 1e-3, 1e-2)
MODELS = ("bpr factorisation", "bpr branch", "five branches", "concf")
REFERENCE = "concf reference"
METRICS = {"R@10": "recall@10", "R@50": "recall@50", "N@10": "ndcg@10", "N@50": "ndcg@50"}


def load(root: str, subset: bool) -> HeteroData:
    """The graph of the comparison, or that of the notebook."""
    if not subset:
        return CiteULike(root)[0]
    edges, *_ = interactions(CiteULike(root, min_interactions=1)[0])
    enough = [torch.bincount(ids) >= 10 for ids in edges]
    return from_interactions(edges[:, enough[0][edges[0]] & enough[1][edges[1]]])


def views(model: Any) -> dict[str, Any]:
    """What is measured of a model, by name; the BPR head comes first."""
    if not isinstance(model, MultiBranch):
        return {"model": model}
    if len(model.layout) == 1:
        return {"model": model.head("bpr")}
    heads = {f"head {head.name}": model.head(head.name) for head in model.layout}
    return heads | {"consensus": model.consensus()}


def measure(model: Any, data: HeteroData, targets: HeteroData) -> dict[str, dict[str, float]]:
    return {
        name: evaluate(view, data, targets, k=(10, 50), metrics=("recall", "ndcg"))
        for name, view in views(model).items()
    }


def validate(model: Any, data: HeteroData, targets: HeteroData) -> dict[str, float]:
    found = measure(model, data, targets)
    values = {f"{name} {key}": v for name, of in found.items() for key, v in of.items()}
    return values | {"recall@50": next(iter(found.values()))["recall@50"]}


def run(
    name: str, split: tuple[HeteroData, ...], seed: int, decay: float, epochs: int
) -> dict[str, Any]:
    """Train one model; its values on the test items, curves and seconds."""
    train, val, test = split
    torch.manual_seed(seed)
    variant = "reference" if name == REFERENCE else "paper"
    heads = ("bpr",) if name == "bpr branch" else None
    model = (
        MF(train, dim=64)
        if name == "bpr factorisation"
        else MultiBranch(train, heads=heads, variant=variant)
    )
    methods = []
    if isinstance(model, MultiBranch) and name in ("concf", REFERENCE):
        weights = model.branch_weights
        method = ConsensusLearning(heads=model.layout, weights=weights, variant=variant)
        methods = [(method, 5e-3)]
    trainer = Trainer(
        max_epochs=epochs,
        batch_size=1024,
        lr=1e-2,
        weight_decay=decay,
        seed=seed,
        metric="recall@50",
        evaluate_every=min(10, epochs),
        patience=None,
        evaluator=validate,
    )
    history = trainer.fit(model, train, val_data=val, distillations=methods)
    curves = {c: history[c] for c in history.columns if "@" in c}
    return {
        "seed": seed,
        "weight decay": decay,
        "test": measure(model, train, test),
        "validation": curves,
        "best epoch": history.best_epoch,
        "median seconds an epoch": statistics.median(history["seconds"]),
        "longest epoch": max(history["seconds"]),
        "peak GB so far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def best_validation(found: dict[str, Any]) -> float:
    """What a run reached on the validation items."""
    return max(value for value in found["validation"]["recall@50"] if value == value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data") + "/citeulike")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--subset", action="store_true", help="the data of the authors' notebook")
    parser.add_argument("--reference", action="store_true", help="the authors' network alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/concf"), help="where runs are kept")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    data, runs = load(args.root, args.subset), {}
    splits = {seed: UserSplit(val=0.2, test=0.2, seed=seed)(data) for seed in args.seeds}

    def kept(name: str, seed: int, decay: float) -> dict[str, Any]:
        """A run, read from its file if it has been made before."""
        label = f"{name.replace(' ', '_')}-{decay:g}-{args.epochs}-{seed}.json"
        path = args.out / f"{'subset-' * args.subset}{label}"
        if not path.exists():
            path.write_text(json.dumps(run(name, splits[seed], seed, decay, args.epochs)))
        found: dict[str, Any] = json.loads(path.read_text())
        speed = f"{found['median seconds an epoch']:.2f} s/epoch"
        print(name, seed, decay, found["test"], speed, flush=True)
        return found

    models = (REFERENCE,) if args.reference else MODELS
    result = "concf_reference" if args.reference else "concf"
    if args.subset:
        decays = dict.fromkeys(models, DECAYS)
    else:
        chosen = json.loads((RESULTS / f"{result}_subset.json").read_text())["weight decay"]
        decays = {name: (chosen[name],) for name in models}
    validation: dict[str, dict[str, float]] = {}
    for name in models:
        tried = {decay: kept(name, args.seeds[0], decay) for decay in decays[name]}
        reached = {decay: best_validation(one) for decay, one in tried.items()}
        best = max(reached, key=reached.__getitem__)
        validation[name] = {f"{decay:g}": value for decay, value in reached.items()}
        runs[name] = [tried[best], *(kept(name, seed, best) for seed in args.seeds[1:])]

    rows: dict[str, dict[str, float | None]] = {}
    for name, found in runs.items():
        for view in found[0]["test"]:
            row = rows.setdefault(f"{name}, {view}", {})
            for metric, key in METRICS.items():
                values = [one["test"][view][key] for one in found]
                row[metric] = statistics.mean(values)
                row[f"{metric} deviation"] = statistics.stdev(values) if len(values) > 1 else None
    lines = [[name, *(f"{row[metric]:.4f}" for metric in METRICS)] for name, row in rows.items()]
    table(["model", *METRICS], lines)
    size = {t: data[t].num_nodes for t in ("user", "item")}
    payload = {
        "data": "CiteULike",
        "subset": args.subset,
        "reference": args.reference,
        "seeds": args.seeds,
        "epochs": args.epochs,
        "nodes": size,
        "metrics": METRICS,
    }
    payload["weight decay"] = {name: found[0]["weight decay"] for name, found in runs.items()}
    payload |= {"validation": validation, "rows": rows, "runs": runs}
    write(f"{result}_subset" if args.subset else result, payload)


if __name__ == "__main__":
    main()
