"""From the graph to a distilled student.

Trains a LightGCN teacher, extracts its knowledge, trains a student a sixth as wide alone and
under distillation, compares the three, and writes what would be served.

    python examples/gowalla.py                  # Gowalla, some 6 minutes on two cores
    python examples/gowalla.py --fast           # fewer epochs, narrower, under 3 minutes
    python examples/gowalla.py --dataset movielens-100k
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from pyg_kd import RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.datasets import Gowalla, MovieLens100K, SyntheticInteractions
from pyg_kd.evaluation import evaluate
from pyg_kd.functional import rank_unseen
from pyg_kd.knowledge import extract_knowledge, save_knowledge
from pyg_kd.models import LightGCN
from pyg_kd.training import Trainer
from pyg_kd.transforms import UserSplit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument(
    "--dataset", default="gowalla", choices=["gowalla", "movielens-100k", "synthetic"]
)
parser.add_argument("--root", help="folder of the data set; default: $PYG_KD_DATA or data/")
parser.add_argument("--out", default="out/gowalla", type=Path, help="folder for what is written")
parser.add_argument(
    "--strict", action="store_true", help="fail where the data set is not to be had"
)
parser.add_argument("--fast", action="store_true", help="a short run")
parser.add_argument("--epochs", type=int, help="epochs of the students")
parser.add_argument("--teacher-epochs", type=int, help="epochs of the teacher")
parser.add_argument("--teacher-dim", type=int, help="width of the teacher")
parser.add_argument("--student-dim", type=int, help="width of the student")
parser.add_argument("--methods", nargs="*", default=["ftd", "rrd"], choices=["ftd", "htd", "rrd"])
parser.add_argument("--seeds", type=int, default=1, help="students are trained with so many seeds")
parser.add_argument("--threads", type=int, help="threads of PyTorch")
args = parser.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)

# 1. Data: one graph with user and item nodes, then a validation part of its training edges.
folder = {"gowalla": "gowalla", "movielens-100k": "ml-100k"}.get(args.dataset)
root = args.root or str(Path(os.environ.get("PYG_KD_DATA", "data")) / str(folder))
label = args.dataset
try:
    if args.dataset == "gowalla":
        data = Gowalla(root)[0]
    elif args.dataset == "movielens-100k":
        data = MovieLens100K(root)[0]
except (FileNotFoundError, OSError) as error:
    if args.strict:
        raise SystemExit(f"{args.dataset} is not to be had: {error}") from error
    print(f"{error}\n{args.dataset} is not to be had: continuing on SYNTHETIC data", flush=True)
    args.dataset = "synthetic"
if args.dataset == "synthetic":
    label = "SYNTHETIC"
    data = SyntheticInteractions(None, num_users=6_000, num_items=3_000, num_edges=150_000, seed=0)[
        0
    ]

large = data["user", "item"].num_edges > 500_000
epochs = args.epochs or (2 if large and args.fast else 5 if large else 15)
teacher_epochs = args.teacher_epochs or (3 if large and args.fast else 6 if large else 15)
teacher_dim = args.teacher_dim or (32 if large and args.fast else 96 if large else 64)
student_dim = args.student_dim or (6 if teacher_dim < 64 else 16 if large else 8)
batch_size = 8192 if large else 2048
# Gowalla has test edges of its own; a fiftieth of its training edges is enough to validate on.
train, val, test = UserSplit(val=0.02 if large else 0.1, test=0.2, seed=0)(data)
print(
    f"{label}: {train['user'].num_nodes:,} users, {train['item'].num_nodes:,} items, "
    f"{train['user', 'item'].num_edges:,} training edges",
    flush=True,
)

# 2. The teacher, and what it knows as attributes of the graph.
args.out.mkdir(parents=True, exist_ok=True)


def train_model(model, graph, seed, max_epochs, distillations=()):
    trainer = Trainer(max_epochs=max_epochs, batch_size=batch_size, lr=0.01, seed=seed)
    return trainer.fit(model, graph, val_data=val, distillations=distillations)


torch.manual_seed(0)
teacher = LightGCN(train, dim=teacher_dim, num_layers=2)
histories = {"teacher": train_model(teacher, train, 0, teacher_epochs)}
graph = extract_knowledge(teacher, train, num_items=100, progress=True)
save_knowledge(graph, args.out / "knowledge.safetensors")

# 3. The student, alone and distilled, with the same seeds and the same number of epochs.
# Weights belong to a base loss and a batch size: these to sampled softmax, whose temperature of
# 0.1 is also the scale of RRD's scores. Topology sums over pairs, of which a large batch has many.
choices = {
    "ftd": (TopologyDistillation(mode="full"), 1e-4),
    "htd": (TopologyDistillation(mode="hierarchical"), 1e-4),
    "rrd": (RelaxedRankingDistillation(num_uninteresting=200, scale=10.0), 0.3 if large else 1.0),
}
students = {"student alone": [], "distilled": []}
for seed in range(args.seeds):
    for name, models in students.items():
        torch.manual_seed(seed)
        student = LightGCN(graph, dim=student_dim, num_layers=2)
        distillations = [choices[m] for m in args.methods] if name == "distilled" else []
        history = train_model(student, graph, seed, epochs, distillations)
        histories.setdefault(name, history)
        models.append(student)

# 4. Accuracy on the test edges, size, cost.


def microseconds_a_list(model):
    """Time to rank all items for all users, a top-20 list each, from the two tables."""
    with torch.no_grad():
        x = model(train)
    start = time.perf_counter()
    for _ in rank_unseen(
        lambda rows, cols: x["user"][rows] @ x["item"][cols].t(),
        len(x["user"]),
        len(x["item"]),
        k=20,
    ):
        pass
    return 1e6 * (time.perf_counter() - start) / len(x["user"])


rows, recalls = [], {}
for name, models in {"teacher": [teacher], **students}.items():
    metrics = [evaluate(model, train, test, k=20, metrics=("recall", "ndcg")) for model in models]
    recalls[name] = [m["recall@20"] for m in metrics]
    parameters = sum(p.numel() for p in models[0].parameters())
    rows.append(
        {
            "model": name,
            "width": models[0].dim,
            "parameters": parameters,
            "bytes": 4 * parameters,
            "recall@20": sum(recalls[name]) / len(metrics),
            "ndcg@20": sum(m["ndcg@20"] for m in metrics) / len(metrics),
            "s/epoch": sum(histories[name]["seconds"]) / len(histories[name]),
            "us/list": microseconds_a_list(models[0]),
        }
    )
gap = rows[0]["recall@20"] - rows[1]["recall@20"]
for row in rows:
    row["gap closed"] = (row["recall@20"] - rows[1]["recall@20"]) / gap if gap > 0 else float("nan")

print(f"\n{label}, {epochs} epochs, {' + '.join(args.methods)}, {args.seeds} seed(s)")
print(
    f"{'model':14} {'width':>5} {'parameters':>11} {'bytes':>11} {'Recall@20':>9} {'NDCG@20':>8} "
    f"{'s/epoch':>8} {'us/list':>8} {'gap closed':>10}"
)
for row in rows:
    print(
        f"{row['model']:14} {row['width']:5d} {row['parameters']:11,} {row['bytes']:11,} "
        f"{row['recall@20']:9.4f} {row['ndcg@20']:8.4f} {row['s/epoch']:8.2f} "
        f"{row['us/list']:8.1f} "
        f"{row['gap closed']:10.0%}"
    )
gains = [d / s - 1 for d, s in zip(recalls["distilled"], recalls["student alone"], strict=True)]
print("distilled against alone, Recall@20: " + ", ".join(f"{gain:+.1%}" for gain in gains))

# 5. What is kept: the numbers, a picture, the student's tables.
with torch.no_grad():
    served = students["distilled"][0](train)
save_file({key: x.contiguous() for key, x in served.items()}, args.out / "student.safetensors")
(args.out / "comparison.json").write_text(
    json.dumps({"data": label, "rows": rows, "recall@20": recalls}, indent=1)
)

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
figure.suptitle(label)
for name, history in histories.items():
    history.plot("recall@20", ax=left, label=name)
left.set_ylabel("validation Recall@20")
left.legend()
for row in rows:
    right.scatter(row["bytes"] / 1e6, row["recall@20"], s=60)
    right.annotate(
        row["model"],
        (row["bytes"] / 1e6, row["recall@20"]),
        xytext=(6, 4),
        textcoords="offset points",
    )
right.set(xscale="log", xlabel="size of the tables [MB]", ylabel="test Recall@20")
right.margins(x=0.3, y=0.15)
figure.savefig(args.out / "comparison.png", dpi=150)
print(f"wrote knowledge, student, comparison.json and comparison.png to {args.out}")
