"""From the graph to a student that ships.

Trains a wide LightGCN, and narrow ones alone and by Topology Distillation. Then the best recipe:
the wide LightGCN and other teachers are fused into an ensemble, which a factorisation of the
students' width learns. Compares all of them, saves the last one as a bundle that a service loads,
and prints its lists beside the ensemble's.

    python examples/gowalla.py                  # Gowalla, under 10 minutes on two cores
    python examples/gowalla.py --fast           # narrower, fewer epochs, under 3 minutes
    python examples/gowalla.py --dataset movielens-100k
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from data_options import add_options, is_large, load
from lists_side_by_side import print_lists

from pyg_kd import (
    RelaxedRankingDistillation,
    TopologyDistillation,
    Trainer,
    compress,
    extract_knowledge,
)
from pyg_kd.evaluation import Leaderboard
from pyg_kd.knowledge import Listed, save_knowledge
from pyg_kd.models import LightGCN
from pyg_kd.retrieval import save_student
from pyg_kd.training import lightgcn_teacher, train_ensemble
from pyg_kd.training.teachers import auto_teachers

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
add_options(parser)
parser.add_argument("--out", default="out/gowalla", type=Path, help="folder for the results")
parser.add_argument("--fast", action="store_true", help="a shorter run on Gowalla")
parser.add_argument("--epochs", type=int, help="maximum number of epochs for the students")
parser.add_argument("--teacher-epochs", type=int, help="maximum number of epochs for the teacher")
parser.add_argument("--teacher-dim", type=int, help="embedding width of the teacher")
parser.add_argument("--student-dim", type=int, help="embedding width of the students")
parser.add_argument("--methods", nargs="*", default=["ftd", "rrd"], choices=["ftd", "htd", "rrd"])
parser.add_argument("--seeds", type=int, default=1, help="number of student seeds")
parser.add_argument("--threads", type=int, help="number of PyTorch threads")
args = parser.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)

# 1. The data: one user-item graph, with edges held out for validation and for the test.
label, train, val, test = load(args)
size = "small" if not is_large(train) else "fast" if args.fast else "large"
teacher_dim, student_dim, teacher_epochs, epochs, best_epochs, batch_size, weight = {
    "small": (64, 8, 24, 10, None, 2048, 1.0),
    "fast": (32, 20, 6, 2, 8, 8192, 0.3),
    "large": (128, 20, 12, 5, 40, 8192, 0.3),
}[size]
teacher_dim, student_dim = args.teacher_dim or teacher_dim, args.student_dim or student_dim
teacher_epochs, epochs = args.teacher_epochs or teacher_epochs, args.epochs or epochs
best_epochs = args.epochs or best_epochs
args.out.mkdir(parents=True, exist_ok=True)
board = Leaderboard(train, test, k=20)


def fit(model, graph, seed, max_epochs, distillations=()):
    """Train a LightGCN."""
    trainer = Trainer(max_epochs=max_epochs, batch_size=batch_size, lr=0.01, seed=seed)
    return trainer.fit(model, graph, val_data=val, distillations=distillations)


# 2. The teacher, and its knowledge as attributes of the graph.
teacher, trainer = lightgcn_teacher(train, dim=teacher_dim, max_epochs=teacher_epochs)
board.add("teacher", teacher, history=trainer.fit(teacher, train, val_data=val))
graph = extract_knowledge(teacher, train, num_items=100, progress=True)
save_knowledge(graph, args.out / "knowledge.safetensors")

# 3. The student, alone and distilled, from the same seeds and with the same budget of epochs.
# The weights suit this base loss and batch size. Sampled softmax has a temperature of 0.1, hence
# RRD's scale of 10; the topology loss sums over all pairs in a batch, hence its small weight.
choices = {
    "ftd": (TopologyDistillation(mode="full"), 1e-4),
    "htd": (TopologyDistillation(mode="hierarchical"), 1e-4),
    "rrd": (RelaxedRankingDistillation(num_uninteresting=200, scale=10.0), weight),
}
methods = [choices[name] for name in args.methods]
for name, distillations in {"student alone": [], " + ".join(args.methods).upper(): methods}.items():
    students, histories = [], []
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        students.append(LightGCN(graph, dim=student_dim, num_layers=2))
        histories.append(fit(students[-1], graph, seed, epochs, distillations))
    board.add(name, *students, history=histories[0])

# 4. The best recipe: teachers of several kinds, fused, and a student that learns their lists.
ensemble = train_ensemble(train, val, teachers=[teacher, *auto_teachers(train)])
print(ensemble.report, flush=True)
shown = Listed(ensemble.graph)
board.add("ensemble", shown, size=ensemble.report.rows[-1].bytes)
students, report = [], None
for seed in range(args.seeds):
    student, report = compress(
        train, val, dim=student_dim, teachers=[ensemble.graph], epochs=best_epochs, seed=seed
    )
    students.append(student)
board.add("compressed", *students, history=report.history)

# 5. The comparison, and the student as a service loads it, with its lists beside the ensemble's.
print(f"\n{label}, {args.seeds} seed(s)\n{board}")
board.to_json(args.out / "comparison.json", data=label)
metrics = {f"test {key}": board.rows["compressed"][key] for key in ("recall@20", "ndcg@20")}
save_student(students[0], args.out / "bundle", graph=train, dtype="int8", metrics=metrics)
print_lists(args.out / "bundle", ensemble.graph)
print(f"\nwrote bundle/, knowledge.safetensors and comparison.json to {args.out}")
try:
    board.plot(args.out / "comparison.png", label)
    print(f"drew {args.out / 'comparison.png'}")
except ModuleNotFoundError:
    print('no figure: Matplotlib is missing, pip install "pyg_kd[plot]"')
