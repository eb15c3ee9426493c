"""From the graph to a distilled student.

Trains a LightGCN teacher, extracts its knowledge, trains a narrow student with and without
distillation, compares the three, saves the student as a bundle that a service would load, and
prints lists from it beside the teacher's.

    python examples/gowalla.py                  # Gowalla, about 6 minutes on two cores
    python examples/gowalla.py --fast           # narrower, fewer epochs, under 3 minutes
    python examples/gowalla.py --dataset movielens-100k
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pyg_kd import (
    RelaxedRankingDistillation,
    TopologyDistillation,
    Trainer,
    evaluate,
    extract_knowledge,
)
from pyg_kd.datasets import Gowalla, MovieLens100K, SyntheticInteractions
from pyg_kd.functional import rank_unseen
from pyg_kd.knowledge import save_knowledge
from pyg_kd.models import LightGCN
from pyg_kd.retrieval import TopKIndex, load_student, save_student
from pyg_kd.transforms import UserSplit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument(
    "--dataset", default="gowalla", choices=["gowalla", "movielens-100k", "synthetic"]
)
parser.add_argument("--root", help="folder of the data set (default: $PYG_KD_DATA or data/)")
parser.add_argument("--out", default="out/gowalla", type=Path, help="folder for the results")
parser.add_argument(
    "--strict", action="store_true", help="fail instead of falling back to synthetic data"
)
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

# 1. Data: one user-item graph, with edges held out for validation and for the test.
folder = {"gowalla": "gowalla", "movielens-100k": "ml-100k"}.get(args.dataset)
root = args.root or str(Path(os.environ.get("PYG_KD_DATA", "data")) / str(folder))
label = args.dataset
try:
    if args.dataset == "gowalla":
        data = Gowalla(root)[0]
    elif args.dataset == "movielens-100k":
        data = MovieLens100K(root)[0]
except OSError as error:
    if args.strict:
        raise SystemExit(f"{args.dataset} is unavailable: {error}") from error
    print(f"{error}\n{args.dataset} is unavailable: using SYNTHETIC data instead", flush=True)
    args.dataset = "synthetic"
if args.dataset == "synthetic":
    label = "SYNTHETIC"
    dataset = SyntheticInteractions(num_users=6_000, num_items=3_000, num_edges=150_000, seed=0)
    data = dataset[0]

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

# 2. The teacher, and its knowledge as attributes of the graph.
args.out.mkdir(parents=True, exist_ok=True)


def train_model(model, graph, seed, max_epochs, distillations=()):
    trainer = Trainer(max_epochs=max_epochs, batch_size=batch_size, lr=0.01, seed=seed)
    return trainer.fit(model, graph, val_data=val, distillations=distillations)


torch.manual_seed(0)
teacher = LightGCN(train, dim=teacher_dim, num_layers=2)
histories = {"teacher": train_model(teacher, train, 0, teacher_epochs)}
graph = extract_knowledge(teacher, train, num_items=100, progress=True)
save_knowledge(graph, args.out / "knowledge.safetensors")

# 3. The student, alone and distilled, from the same seeds and with the same budget of epochs.
# The weights suit this base loss and batch size. Sampled softmax has a temperature of 0.1, hence
# RRD's scale of 10; the topology loss sums over all pairs in a batch, hence its small weight.
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


# 4. Test accuracy, size and cost.
def rank(x, users):
    """A top-20 list over the whole catalogue for each user, from the two embedding tables."""
    return list(
        rank_unseen(
            lambda rows, cols: x["user"][rows] @ x["item"][cols].t(),
            len(x["user"]),
            len(x["item"]),
            k=20,
            rows=users,
        )
    )


def microseconds_a_list(models, rounds=21):
    """Time on one core to rank for one user: the median over rounds, the first of which warms up.

    Processor time, and the models take turns, so that other load on the machine matters little.
    """
    users = torch.arange(min(train["user"].num_nodes, 1_000))
    with torch.no_grad():
        tables = [model(train) for model in models]
    seconds, threads = [[] for _ in tables], torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(rounds):
        for x, times in zip(tables, seconds, strict=True):
            start = time.process_time()
            rank(x, users)
            times.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return [1e6 * statistics.median(times[1:]) / len(users) for times in seconds]


compared = {"teacher": [teacher], **students}
latencies = microseconds_a_list([models[0] for models in compared.values()])
rows, recalls = [], {}
for (name, models), latency in zip(compared.items(), latencies, strict=True):
    metrics = [evaluate(model, train, test, k=20, metrics=("recall", "ndcg")) for model in models]
    recalls[name] = [m["recall@20"] for m in metrics]
    parameters = sum(p.numel() for p in models[0].parameters())
    rows.append(
        {
            "model": name,
            "width": models[0].dim,
            "parameters": parameters,
            "bytes": 4 * parameters,
            "recall@20": statistics.mean(recalls[name]),
            "ndcg@20": statistics.mean(m["ndcg@20"] for m in metrics),
            "s/epoch": statistics.mean(histories[name]["seconds"]),
            "us/list": latency,
        }
    )
gap = rows[0]["recall@20"] - rows[1]["recall@20"]
for row in rows:
    row["gap closed"] = (row["recall@20"] - rows[1]["recall@20"]) / gap if gap > 0 else float("nan")

print(f"\n{label}, up to {epochs} epochs, {' + '.join(args.methods)}, {args.seeds} seed(s)")
print(
    f"{'model':14} {'width':>5} {'parameters':>11} {'bytes':>11} {'Recall@20':>9} {'NDCG@20':>8} "
    f"{'s/epoch':>8} {'us/list':>8} {'gap closed':>10}"
)
for row in rows:
    print(
        f"{row['model']:14} {row['width']:5d} {row['parameters']:11,} {row['bytes']:11,} "
        f"{row['recall@20']:9.4f} {row['ndcg@20']:8.4f} {row['s/epoch']:8.2f} "
        f"{row['us/list']:8.1f} {row['gap closed']:10.0%}"
    )
gains = [d / s - 1 for d, s in zip(recalls["distilled"], recalls["student alone"], strict=True)]
print("distilled vs. alone, Recall@20: " + ", ".join(f"{gain:+.1%}" for gain in gains))

# 5. The student as a service loads it, and its lists beside the teacher's.
student = students["distilled"][0]
measured = {f"test {key}": rows[2][key] for key in ("recall@20", "ndcg@20")}
save_student(student, args.out / "bundle", graph=graph, metrics=measured, name="distilled")
student_index, teacher_index = (
    load_student(args.out / "bundle"),
    TopKIndex.from_model(teacher, train),
)


def side_by_side(user, k=10):
    """Print the two lists of a user; items that are in both are marked."""
    teacher_list, student_list = (i.search([user], k)[0][0] for i in (teacher_index, student_index))
    common = set(teacher_list.tolist()) & set(student_list.tolist())
    print(f"\nuser {user}: {len(common)} of {k} in common\n{'teacher':39} student")
    for pair in zip(teacher_list.tolist(), student_list.tolist(), strict=True):
        cells = [f"{'=' if item in common else ' '} {titles[item]:.36}" for item in pair]
        print(f"{cells[0]:39} {cells[1]}".rstrip())


ids = student_index.items.take(np.arange(student_index.num_items)).tolist()
titles = dict(zip(ids, train["item"].get("title") or [f"item {i}" for i in ids], strict=True))
for row in (0, student_index.num_users // 2):
    side_by_side(student_index.users.take(np.array([row]))[0])

# 6. The results: the student's tables alone, the numbers, a figure.
with torch.no_grad():
    served = student(train)
save_file({key: x.contiguous() for key, x in served.items()}, args.out / "student.safetensors")
(args.out / "comparison.json").write_text(
    json.dumps({"data": label, "rows": rows, "recall@20": recalls}, indent=1)
)
print(f"\nwrote bundle/, knowledge.safetensors, student.safetensors, comparison.json to {args.out}")

try:
    import matplotlib
except ImportError:
    print('no figure: Matplotlib is missing, pip install "pyg_kd[plot]"')
    raise SystemExit from None
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
figure.suptitle(label)
for name, history in histories.items():
    history.plot("recall@20", ax=left, label=name)
left.xaxis.get_major_locator().set_params(integer=True)
left.set(ylabel="Recall@20", title="validation, during training")
left.legend(loc="lower right")
# The students have one size. The best model is named above its point, the worst below, the other
# one beside it, so that no two names meet.
beside = {"xytext": (8, 0), "ha": "left", "va": "center"}
above = {"xytext": (0, 8), "ha": "center", "va": "bottom"}
below = {"xytext": (0, -8), "ha": "center", "va": "top"}
ranked = sorted(rows, key=lambda row: row["recall@20"])
for row, place in zip(ranked, (below, beside, above), strict=True):
    color = f"C{rows.index(row)}"
    at = row["bytes"] / 1e6, row["recall@20"]
    right.scatter(*at, s=60, color=color)
    right.annotate(row["model"], at, textcoords="offset points", **place)
right.set(xscale="log", xlabel="size of the tables [MB]", title="test")
sizes = sorted({row["bytes"] / 1e6 for row in rows})
right.set_xticks(sizes, labels=[f"{size:.3g}" for size in sizes])
right.minorticks_off()
right.margins(x=0.4)
left.set_ylim(0, 1.15 * max(left.dataLim.ymax, right.dataLim.ymax))
figure.savefig(args.out / "comparison.png", dpi=150)
print(f"drew {args.out / 'comparison.png'}")
