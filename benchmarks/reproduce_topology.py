"""Reproduction of the topology curves: CiteULike, leave-one-out, matrix factorisation.

Recall@50 on the test items, full ranking, of a teacher of width 200 and students of width 20:
alone, under FTD, and under HTD in the paper's variant and in that of the authors' code.

    python benchmarks/reproduce_topology.py --root DIR [--reference topology-curves.json]

DIR holds ``loo/train.txt``, ``valid.txt``, ``test.txt`` of the leave-one-out split. ``--rows`` runs
some of the students and their teacher alone, and keeps the other rows of the results.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from report import RESULTS, machine, table, write

from pyg_kd import TopologyDistillation
from pyg_kd.datasets import CiteULike
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF
from pyg_kd.training import Trainer

METRIC = "recall@50"
#: Recall@50 at epoch 100 in the authors' run, by name.
PUBLISHED = {"teacher 200": 0.3123, "student 20": 0.2276, "FTD 20": 0.2516, "HTD 20": 0.2744}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data") + "/citeulike")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--reference", type=Path, help="JSON with the authors' curves, to draw")
    parser.add_argument("--rows", nargs="+", default=[], help="run these students only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train, _, test = CiteULike(args.root, split="leave_one_out")

    trainer = Trainer(
        max_epochs=args.epochs,
        batch_size=1024,
        lr=1e-3,
        weight_decay=1e-3,
        seed=args.seed,
        metric=METRIC,
        evaluate_every=10,
        patience=None,
        restore_best=False,  # the figures are those of the last epoch
        evaluator=lambda model, data, held_out: evaluate(model, data, held_out, k=(50,)),
    )
    curves: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}

    def fit(name: str, model: MF, data, distillations=()) -> None:
        history = trainer.fit(model, data, val_data=test, distillations=distillations)
        curves[name], seconds[name] = history[METRIC], history["seconds"]
        print(
            f"{name}: {METRIC} {curves[name][-1]:.4f}, "
            f"{sum(seconds[name]) / len(history):.2f} s/epoch"
        )

    torch.manual_seed(args.seed)
    teacher = MF(train, dim=200)
    fit("teacher 200", teacher, train)
    graph = extract_knowledge(teacher, train, num_items=0)
    methods = {
        "student 20": [],
        "FTD 20": [(TopologyDistillation(mode="full"), 1e-3)],
        "HTD 20": [(TopologyDistillation(mode="hierarchical"), 1e-3)],
        "HTD 20, reference": [
            (TopologyDistillation(mode="hierarchical", variant="reference"), 1e-3)
        ],
    }
    for name, distillations in methods.items():
        if args.rows and name not in args.rows:
            continue
        torch.manual_seed(args.seed)
        fit(name, MF(graph, dim=20), graph, distillations)

    apart: dict[str, Any] = {}
    if args.rows:
        apart = join_earlier(curves, seconds)
    rows = []
    for name, curve in curves.items():
        published = PUBLISHED[name.split(",")[0]]
        rows.append([name, f"{curve[-1]:.4f}", f"{published:.4f}", f"{curve[-1] - published:+.4f}"])
    table(["model", "Recall@50", "authors", "difference"], rows)
    epochs = list(range(10, args.epochs + 1, 10))
    write(
        "reproduce_topology",
        {
            "data": "CiteULike, leave-one-out",
            "metric": "Recall@50, test, full ranking",
            "seed": args.seed,
            "epochs": epochs,
            "curves": curves,
            "published": PUBLISHED,
            "mean seconds an epoch": {n: sum(s) / len(s) for n, s in seconds.items()},
            "seconds an epoch": seconds,
            **apart,
        },
    )
    draw(epochs, curves, args.reference)


def join_earlier(curves: dict[str, list[float]], seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Put the rows of this run among the earlier ones; returns what to note about that.

    Their times are left out: they are not of the same machine, or not of the same hour.
    """
    known = json.loads((RESULTS / "reproduce_topology.json").read_text())
    teacher = curves.pop("teacher 200")
    here = {"machine": machine(), "teacher 200": teacher}
    apart = {**known.get("run apart", {}), **{name: here for name in curves}}
    seconds.clear()
    seconds.update((n, s) for n, s in known["seconds an epoch"].items() if n not in apart)
    joined = {**known["curves"], **curves}
    curves.clear()
    curves.update(joined)
    return {"machine": known["machine"], "run apart": apart}


def draw(epochs: list[int], curves: dict[str, list[float]], reference: Path | None) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    lines = {n: ax.plot(epochs, c, marker=".", label=n)[0] for n, c in curves.items()}
    if reference is not None:
        known = json.loads(reference.read_text())
        theirs = {"teacher 200": known["teacher_width_200"]}
        keys = {"student 20": "no_distillation", "FTD 20": "FTD", "HTD 20": "HTD"}
        theirs |= {name: known["student"]["20"][key] for name, key in keys.items()}
        for name, curve in theirs.items():
            ax.plot(known["epochs"], curve, ":", color=lines[name].get_color(), alpha=0.8)
        ax.plot([], [], ":", color="grey", label="authors' code")
    ax.set_xlabel("epoch")
    ax.set_ylabel("Recall@50")
    ax.legend(fontsize="small")
    figure.savefig(RESULTS / "reproduce_topology.png", dpi=150)


if __name__ == "__main__":
    main()
