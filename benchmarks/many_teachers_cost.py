"""Seconds an epoch and peak memory of ConCF and HetComp, on CiteULike.

    python benchmarks/many_teachers_cost.py --root DIR

ConCF on users and items of ten interactions or more (33 batches of 1024): five heads in branches
of width 64, the same with consensus learning, and one refresh of the consensus; and with consensus
learning on users of five or more (78 batches). HetComp on users of five or more: a student of
width 20 and six teachers, in the coarse phase and in the fine one, and one move of the pointers.

Each row is a process of its own, so that its peak memory is its own. Memory of a process that has
only loaded the package and the data is about 0.5 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from statistics import median

import torch
from concf import load
from report import measure_rows, write
from torch_geometric.data import HeteroData

from pyg_kd import ConsensusLearning, HetComp
from pyg_kd.datasets import CiteULike
from pyg_kd.knowledge import TrajectoryRecorder, attach_trajectories
from pyg_kd.models import MF, MultiBranch
from pyg_kd.training import Trainer
from pyg_kd.transforms import UserSplit

#: The authors' code on a machine of this kind, seconds.
AUTHORS = {
    "ConCF, heads": 4.5, "ConCF, with consensus": 10.5, "ConCF, refresh": 10.0,
    "HetComp, coarse": 10.7, "HetComp, fine": 16.4,
}  # fmt: skip
LARGE = "ConCF, users of five or more"
ROWS = [*AUTHORS, "HetComp, move of the pointers", LARGE]


def epochs_of(model: MF | MultiBranch, graph: HeteroData, methods: list, epochs: int, **options):
    trainer = Trainer(max_epochs=epochs, batch_size=1024, lr=1e-2, progress=False, **options)
    return trainer.fit(model, graph, distillations=methods)["seconds"]


def concf(row: str, graph: HeteroData, epochs: int) -> list[float]:
    model = MultiBranch(graph)
    if row == "ConCF, heads":
        return epochs_of(model, graph, [], epochs)
    method = ConsensusLearning(
        heads=model.layout, weights=model.branch_weights, window=1, period=epochs + 1
    )
    if row == "ConCF, refresh":
        method.bind(graph, model.out_dim)
        with torch.no_grad():
            x_dict = model.eval()(graph)
        return [elapsed(lambda: method.on_epoch_start(epochs + 1, 99, x_dict)) for _ in range(3)]
    # The consensus begins after as many epochs as it lasts; those before it are the heads alone.
    return epochs_of(model, graph, [(method, 5e-3)], 2 * (epochs + 1))[epochs + 1 :]


def hetcomp(row: str, graph: HeteroData, epochs: int) -> list[float]:
    trajectories = []
    for seed in range(6):
        torch.manual_seed(seed)
        teacher, recorder = MF(graph, 32), TrajectoryRecorder(num_states=2)
        recorder(0, teacher, graph)
        trajectories.append(recorder.finish(MF(graph, 32), graph))
    graph, student = attach_trajectories(graph, trajectories), MF(graph, 20, init_std=0.1)
    method = HetComp(adaptive=row != "HetComp, fine")
    if row == "HetComp, move of the pointers":
        method.bind(graph, student.dim)
        x_dict = {key: x.detach() for key, x in student(graph).items()}
        return [elapsed(lambda: method.on_epoch_start(10, 99, x_dict)) for _ in range(3)]
    return epochs_of(student, graph, [(method, 1e-2)], epochs, base_weight=0.0)


def elapsed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(row: str, root: str, epochs: int) -> dict[str, float]:
    """One row, in this process."""
    torch.manual_seed(0)
    part = row.split(",")[0]
    data = load(root, subset=row != LARGE) if part == "ConCF" else CiteULike(root)[0]
    train, _, _ = UserSplit(val=0.2, test=0.2, seed=0)(data)
    seconds = (concf if part == "ConCF" else hetcomp)(row, train, epochs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": median(seconds), "peak GB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data") + "/citeulike")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of which the median is taken")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS, metavar="ROW")
    parser.add_argument("--only", choices=ROWS, help="measure one row and print it as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only:
        print(json.dumps(measure(args.only, args.root, args.epochs)))
        return
    options = ["--root", args.root, "--epochs", str(args.epochs), "--threads", str(args.threads)]
    keep = args.rows != ROWS
    rows = measure_rows("many_teachers_cost", __file__, options, args.rows, AUTHORS, keep=keep)
    write("many_teachers_cost", {"data": "CiteULike", "ours": rows, "authors": AUTHORS})


if __name__ == "__main__":
    main()
