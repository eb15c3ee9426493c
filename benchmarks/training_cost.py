"""Seconds an epoch and peak memory of every method: CiteULike, width 20 from 200, batch 1024.

    python benchmarks/training_cost.py --root DIR

DIR holds ``loo/train.txt``, ``valid.txt``, ``test.txt`` of the leave-one-out split.

Each row is a process of its own, so that its peak memory is its own. Rows are medians over the
epochs after the first, in which what was drawn at the start is used. ``soft`` are the first
epochs of the annealed routing, ``sharp`` is the routing at its last temperatures; a row
``100 epochs`` is the mean over the whole schedule from the one to the other. ``bfloat16`` is the
trainer's ``precision="bf16-mixed"``, of use where the processor has instructions for it.

    python benchmarks/training_cost.py --root DIR --against CHECKOUT --rows RRD

compares with the package in another checkout: two processes run their epochs in turn, and the
fastest ones count.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any, NoReturn

import torch
from against import HERE, Checkout, Clock, answer, in_turn, steps, version
from report import RESULTS, machine, measure_rows, table, write

import pyg_kd as kd
from pyg_kd.datasets import CiteULike
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.training.student_recipe import student_labels

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
    "SoftLabel of compress, batches of 256 users": lambda: [
        (kd.SoftLabel(**student_labels(CITEULIKE_ITEMS, fused=False)), 1.0)
    ],
}
#: Items of CiteULike, of which a part is drawn for the denominator.
CITEULIKE_ITEMS = 25_181
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


#: Epochs of every schedule, of which only the first ones are run.
SCHEDULE = 100

Row = dict[str, float]


class Enough(Exception):
    """Ends a run from within a callback."""


def prepare(name: str, root: str) -> Callable[[Callable[..., None]], object]:
    """What runs a row, given a function to call after every epoch."""
    train, _, test = CiteULike(root, split="leave_one_out")
    torch.manual_seed(0)
    options: dict[str, Any] = {"batch_size": 1024, "lr": 1e-3, "weight_decay": 1e-3}
    options["progress"] = False
    teacher = MF(train, dim=200)
    if name == "evaluation":
        return lambda callback: evaluations(MF(train, dim=20), train, test, callback)
    if name == "teacher":
        trainer = Trainer(max_epochs=SCHEDULE, **options)
        return lambda callback: trainer.fit(teacher, train, callbacks=[callback])
    Trainer(max_epochs=1, **options).fit(teacher, train)
    needs = {need for method, _ in METHODS[name]() for need in method.needs}
    graph = extract_knowledge(
        teacher,
        train,
        num_items=500 if "teacher_items" in needs else 0,
        num_users=20 if "teacher_users" in needs else 0,
    )
    if "users" in name:
        size = 256 if "256" in name else 512
        options |= {"batch_by": "user", "batch_size": size, "base_weight": 0.0}
    if name.endswith("bfloat16"):
        options["precision"] = "bf16-mixed"
    student, trainer = MF(graph, dim=20), Trainer(max_epochs=SCHEDULE, seed=0, **options)
    return lambda callback: trainer.fit(
        student, graph, distillations=METHODS[name](), callbacks=[callback]
    )


def evaluations(model, train, test, callback) -> NoReturn:
    while True:
        evaluate(model, train, test)
        callback()


def epochs(name: str, root: str, asked: Iterable[None], tell: Callable[[Row], None]) -> None:
    """Run a row, an epoch whenever one is asked for; the first one includes setting up."""
    run, asking = prepare(name, root), iter(asked)
    next(asking)
    clock = Clock()

    def callback(*_: object) -> None:
        nonlocal clock
        tell(clock.read())
        if next(asking, "none") == "none":
            raise Enough
        clock = Clock()

    try:
        run(callback)
    except Enough:
        return


def measure(name: str, root: str, count: int) -> Row:
    """One row, in this process."""
    whole = name.endswith("100 epochs")
    found: list[Row] = []
    epochs(name, root, [None] * (SCHEDULE if whole else 1 + count), found.append)
    return summary(found, mean if whole else median)


def summary(found: list[Row], average: Callable[[Iterable[float]], float] = median) -> Row:
    row = {key: average([step[key] for step in found[1:]]) for key in ("seconds", "CPU seconds")}
    return {**row, "first": found[0]["CPU seconds"], "peak GB": found[-1]["peak GB"]}


def compare(names: list[str], other: Path, options: list[str], count: int, budget: float) -> None:
    """Rows of this checkout and of another one, whose epochs alternate."""
    path = RESULTS / "training_cost_against.json"
    versions = {"before": version(other), "now": version(HERE)}
    stored = json.loads(path.read_text()) if path.exists() else {}
    same = all(
        stored.get(key) == value for key, value in {**versions, "machine": machine()}.items()
    )
    rows = stored["rows"] if same else {}
    for name in names:
        arguments = ["--step", name, *options]
        checkouts = [Checkout(root, __file__, arguments) for root in (other, HERE)]
        before, now = in_turn(checkouts, count, budget)
        # The fastest epochs: what else runs on the machine only adds, to CPU seconds too.
        rows[name] = {"before": summary(before, min), "now": summary(now, min)}
        write("training_cost_against", {**versions, "rows": rows})
    lines = [
        [name, *(row[when][what] for what in ("first", "CPU seconds") for when in row)]
        for name, row in rows.items()
    ]
    table(["row", "first, before", "first, now", "epoch, before", "epoch, now"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data") + "/citeulike")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of which the median is taken")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="these only")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with that one")
    parser.add_argument(
        "--budget", type=float, default=5.0, help="CPU seconds of a row in such a comparison"
    )
    parser.add_argument("--only", help="measure one row and print it as JSON")
    parser.add_argument("--step", help="measure an epoch of one row whenever asked to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only:
        print(json.dumps(measure(args.only, args.root, args.epochs)))
        return
    if args.step:
        epochs(args.step, args.root, steps(kd), answer)
        return
    names = args.rows or ["teacher", *METHODS, "evaluation"]
    options = ["--root", args.root, "--threads", str(args.threads)]
    if args.against is not None:
        names = [name for name in names if not name.endswith("100 epochs")]
        compare(names, args.against, options, args.epochs, args.budget)
        return
    options += ["--epochs", str(args.epochs)]
    rows = measure_rows("training_cost", __file__, options, names, AUTHORS, keep=bool(args.rows))
    write("training_cost", {"data": "CiteULike, leave-one-out", "ours": rows, "authors": AUTHORS})


if __name__ == "__main__":
    main()
