"""Seconds an epoch and peak memory of every method: CiteULike, width 20 from 200, batch 1024.

    python benchmarks/training_cost.py --root DIR

DIR holds ``loo/train.txt``, ``valid.txt``, ``test.txt`` of the leave-one-out split.

Each row is a process of its own, so that its peak memory is its own. ``soft`` is the first
epoch of the annealed routing, ``sharp`` the routing at its last temperatures; a row ``100 epochs``
is the mean over the whole schedule from the one to the other. ``bfloat16`` is the trainer's
``precision="bf16-mixed"``, of use where the processor has instructions for it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from statistics import mean

import torch
from report import measure_rows, write

import pyg_kd as kd
from pyg_kd.datasets import CiteULike
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF
from pyg_kd.training import Trainer

SHARP = (1e-8, 1e-10)
METHODS = {
    "student alone": lambda: [],
    "FTD": lambda: [(kd.TopologyDistillation(mode="full"), 1e-3)],
    "HTD, soft": lambda: [(kd.TopologyDistillation(), 1e-3)],
    "HTD, sharp": lambda: [(kd.TopologyDistillation(temperature=SHARP), 1e-3)],
    "HTD, 100 epochs": lambda: [(kd.TopologyDistillation(), 1e-3)],
    "DE, soft": lambda: [(kd.DistillationExperts(), 1e-2)],
    "DE, sharp": lambda: [(kd.DistillationExperts(temperature=SHARP), 1e-2)],
    "PHR": lambda: [(kd.PersonalizedHintRegression(), 1e-2)],
    "PHR, hidden 128": lambda: [(kd.PersonalizedHintRegression(hidden=128), 1e-2)],
    "FitNet": lambda: [(kd.HintRegression(), 1e-2)],
    "PCKD, sharp": lambda: [(kd.PreferenceConsistentDistillation(temperature=SHARP), 1e-2)],
    "RRD": lambda: [(kd.RelaxedRankingDistillation(), 1e-3)],
    "IR-RRD": lambda: [
        (kd.RelaxedRankingDistillation(), 1e-3),
        (kd.ItemSideRankingRegularization(), 5e-4),
    ],
    "RD": lambda: [(kd.RankingDistillation(), 1e-2)],
    "CD": lambda: [(kd.CollaborativeDistillation(), 1e-2)],
    "DCD": lambda: [(kd.DualCorrection(), 1e-2)],
    "UnKD": lambda: [(kd.UnbiasedDistillation(), 1e-2)],
    "RCE-KD": lambda: [(kd.RejuvenatedCrossEntropy(), 1e-2)],
    "SoftLabel, batches of 512 users": lambda: [(kd.SoftLabel(own_weight=0.5), 1.0)],
}
#: Where matrix products carry the time.
IN_BFLOAT16 = ("HTD, soft", "DE, soft", "DE, sharp", "PHR", "PHR, hidden 128")
METHODS |= {f"{name}, bfloat16": METHODS[name] for name in IN_BFLOAT16}
#: The authors' code on a machine of this kind, seconds an epoch without evaluation.
AUTHORS = {
    "teacher": 3.3, "student alone": 0.64, "FTD": 6.8, "RRD": 4.6, "IR-RRD": 29.0,
    "DE, soft": 31.0, "DE, sharp": 31.0, "HTD, soft": 42.0, "HTD, sharp": 42.0,
    "HTD, 100 epochs": 42.0, "evaluation": 8.4,
}  # fmt: skip
AUTHORS |= {f"{name}, bfloat16": AUTHORS[name] for name in IN_BFLOAT16 if name in AUTHORS}


def measure(name: str, root: str, epochs: int) -> dict[str, float]:
    """One row, in this process."""
    train, _, test = CiteULike(root, split="leave_one_out")
    torch.manual_seed(0)
    options = {"batch_size": 1024, "lr": 1e-3, "weight_decay": 1e-3, "progress": False}
    teacher = MF(train, dim=200)
    if name == "evaluation":
        student, seconds = MF(train, dim=20), []
        for _ in range(epochs + 1):
            start = time.perf_counter()
            evaluate(student, train, test)
            seconds.append(time.perf_counter() - start)
    elif name == "teacher":
        seconds = Trainer(max_epochs=epochs, **options).fit(teacher, train)["seconds"]
    else:
        Trainer(max_epochs=1, **options).fit(teacher, train)
        needs = {need for method, _ in METHODS[name]() for need in method.needs}
        graph = extract_knowledge(
            teacher,
            train,
            num_items=500 if "teacher_items" in needs else 0,
            num_users=20 if "teacher_users" in needs else 0,
        )
        if "users" in name:
            options |= {"batch_by": "user", "batch_size": 512, "base_weight": 0.0}
        if name.endswith("bfloat16"):
            options["precision"] = "bf16-mixed"
        # A long schedule, of which the first epochs are run: the temperature stays where it is.
        distillations = METHODS[name]()
        student = MF(graph, dim=20)
        if name.endswith("100 epochs"):
            history = Trainer(max_epochs=100, seed=0, **options).fit(
                student, graph, distillations=distillations
            )
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            return {"seconds": mean(history["seconds"]), "peak GB": peak}
        seconds = []
        for seed in range(epochs):
            history = Trainer(max_epochs=1, seed=seed, **options).fit(
                student, graph, distillations=distillations
            )
            seconds += history["seconds"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": sorted(seconds)[len(seconds) // 2], "peak GB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data") + "/citeulike")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of which the median is taken")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="these only")
    parser.add_argument("--only", help="measure one row and print it as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only:
        print(json.dumps(measure(args.only, args.root, args.epochs)))
        return
    names = args.rows or ["teacher", *METHODS, "evaluation"]
    options = ["--root", args.root, "--epochs", str(args.epochs), "--threads", str(args.threads)]
    rows = measure_rows("training_cost", __file__, options, names, AUTHORS, keep=bool(args.rows))
    write("training_cost", {"data": "CiteULike, leave-one-out", "ours": rows, "authors": AUTHORS})


if __name__ == "__main__":
    main()
