"""Accuracy against bytes and against latency: CiteULike, a teacher and students at four precisions.

    python benchmarks/latency.py --root DIR [--out out/latency]

DIR holds ``users.dat``. The models, LightGCN of width 200 and 20 by sampled softmax, are trained
once and kept as bundles under ``--out``; further runs only measure. One thread on one processor,
k = 20, seen items left out, indexes in turn. What the teacher pays to compute its vectors is
measured apart, on the training graph. ``--clock cpu`` counts processor time, which other load on
the machine disturbs less.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from report import RESULTS, write
from safetensors.torch import load_file, save_file

from pyg_kd import RelaxedRankingDistillation, Trainer, extract_knowledge
from pyg_kd.datasets import CiteULike
from pyg_kd.graph import sorted_neighbors
from pyg_kd.models import LightGCN
from pyg_kd.retrieval import save_student
from pyg_kd.retrieval.latency import measure_latency, plot_tradeoff, propagation_seconds
from pyg_kd.retrieval.tables import DTYPES
from pyg_kd.transforms import UserSplit

WIDTHS = {"teacher": 200, "student alone": 20, "student": 20}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
EPOCHS = {"teacher": 15, "student alone": 24, "student": 24}


def train_models(train, val, test, out: Path) -> None:
    """Train all models, and save each at every precision."""
    graph, models = train, {}
    for name, dim in WIDTHS.items():
        methods = []
        if name == "student":
            graph = extract_knowledge(models["teacher"], train, num_items=500)
            method = RelaxedRankingDistillation(scale=10.0, num_uninteresting=200)
            methods = [(method, 0.1)]
        torch.manual_seed(0)
        model = models[name] = LightGCN(graph, dim=dim)
        trainer = Trainer(
            max_epochs=EPOCHS[name], batch_size=2048, lr=0.01, seed=0, evaluate_every=3
        )
        trainer.fit(model, graph, val_data=val, distillations=methods)
        save_file(model.state_dict(), out / f"{name}.safetensors")
        for dtype in DTYPES:
            folder = out / f"{name} {dtype}"
            save_student(model, folder, graph=train, seen=test, dtype=dtype, fold_in=None)


def propagation(train, out: Path, clock) -> dict[str, float]:
    """What the teacher pays before there are vectors, in milliseconds."""
    teacher = LightGCN(train, dim=WIDTHS["teacher"])
    teacher.load_state_dict(load_file(out / "teacher.safetensors"))
    found = propagation_seconds(teacher, train, runs=11, clock=clock)
    return {name: 1e3 * seconds for name, seconds in found._asdict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="folder of users.dat (default: $PYG_KD_DATA/citeulike)")
    parser.add_argument("--out", type=Path, default=Path("out/latency"))
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train, val, test = UserSplit(val=0.1, test=0.2, seed=0)(CiteULike(args.root)[0])
    last = args.out / f"student {DTYPES[-1]}"
    if not last.exists():
        args.out.mkdir(parents=True, exist_ok=True)
        train_models(train, val, test, args.out)
    label = test["user", "item"].edge_label_index
    targets = sorted_neighbors(*label, train["user"].num_nodes, train["item"].num_nodes)
    saved = {f"{name} {d}": args.out / f"{name} {d}" for name in [*WIDTHS][::-1] for d in DTYPES}
    teacher = saved.pop("teacher float32")
    report = measure_latency(
        saved,
        teacher=teacher,
        test=(targets.ptr.numpy(), targets.col.numpy()),
        requests=args.requests,
        threads=args.threads,
        clock=CLOCKS[args.clock],
        progress=True,
    )
    found = propagation(train, args.out, CLOCKS[args.clock])
    print(report.table())
    print("the teacher's vectors, ms:", ", ".join(f"{name} {ms:.1f}" for name, ms in found.items()))
    told = {
        "settings": {**report.settings, "clock": args.clock},
        "teacher's propagation, ms": found,
    }
    rows = {row.pop("model"): row for row in report.to_dict()["rows"]}
    write("latency", {**told, "rows": rows})
    plot_tradeoff(
        report.rows, RESULTS / "latency.png", accuracy="Recall@20", title="CiteULike, LightGCN"
    )


if __name__ == "__main__":
    main()
