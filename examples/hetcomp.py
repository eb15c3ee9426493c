"""Six different teachers in one small student.

Trains the teachers, each in its own process, and records their training trajectories. Then trains
a narrow matrix factorisation alone, from the best teacher, from the ensemble (RRD, RCE-KD, soft
labels), and from the trajectories (HetComp, with and without each of its two parts). Prints a table
and draws how the student followed the teachers.

    python examples/hetcomp.py                                  # CiteULike, over an hour
    python examples/hetcomp.py --dataset movielens-100k --fast  # a few minutes

Teachers already trained with the same options under the same ``--out`` are reused, and so are
students of the same teachers.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from pyg_kd import (
    HetComp,
    RejuvenatedCrossEntropy,
    RelaxedRankingDistillation,
    SoftLabel,
    Trainer,
    evaluate,
)
from pyg_kd.datasets import CiteULike, MovieLens100K, SyntheticInteractions
from pyg_kd.knowledge import (
    Trajectory,
    TrajectoryRecorder,
    attach_trajectories,
    fuse,
    load_knowledge,
    save_knowledge,
)
from pyg_kd.models import CML, EASE, GFCF, MF, ItemAE, LightGCN, MultVAE, NeuMF
from pyg_kd.transforms import UserSplit

METRICS = {"R@10": "recall@10", "R@50": "recall@50", "N@10": "ndcg@10", "N@50": "ndcg@50"}
#: Training options of each teacher; those of MF and CML were tuned on validation Recall@50.
TEACHERS = {
    "MF": (MF, {"weight_decay": 1e-2, "num_negatives": 5}),
    "CML": (CML, {"lr": 0.005, "num_negatives": 10}),
    "NeuMF": (NeuMF, {"num_negatives": 4, "weight_decay": 1e-5, "evaluate_every": 5}),
    "LightGCN": (LightGCN, {"lr": 0.01}),
    "MultVAE": (MultVAE, {"batch_by": "user", "batch_size": 256}),
    "ItemAE": (ItemAE, {"lr": 1e-3}),
    # Closed form: no training and a single state. Not among the default teachers.
    "EASE": (EASE, None),
    "GFCF": (GFCF, None),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument(
    "--dataset", default="citeulike", choices=["citeulike", "movielens-100k", "synthetic"]
)
parser.add_argument("--root", help="folder of the data set (default: $PYG_KD_DATA or data/)")
parser.add_argument("--out", default="out/hetcomp", type=Path, help="folder for the results")
parser.add_argument(
    "--strict", action="store_true", help="fail instead of falling back to synthetic data"
)
parser.add_argument("--fast", action="store_true", help="fewer epochs")
parser.add_argument("--teachers", nargs="+", default=list(TEACHERS)[:6], choices=list(TEACHERS))
parser.add_argument("--students", nargs="+", help="train these alone, as the table names them")
parser.add_argument("--epochs", type=int, help="maximum number of epochs for the students")
parser.add_argument("--teacher-epochs", type=int, help="maximum number of epochs for the teachers")
parser.add_argument("--teacher-dim", type=int, default=64, help="embedding width of the teachers")
parser.add_argument("--student-dim", type=int, help="embedding width of the students")
parser.add_argument("--seeds", type=int, default=1, help="number of student seeds")
parser.add_argument(
    "--jobs", type=int, default=os.cpu_count() or 1, help="teachers trained at the same time"
)
parser.add_argument("--threads", type=int, help="number of PyTorch threads, shared by the jobs")
parser.add_argument("--one-teacher", choices=list(TEACHERS), help=argparse.SUPPRESS)
args = parser.parse_args()
threads = args.threads or torch.get_num_threads()
torch.set_num_threads(threads)

# 1. Data: of each user's interactions 60 % for training, 20 % for validation, 20 % for the test.
folder = {"citeulike": "citeulike", "movielens-100k": "ml-100k"}.get(args.dataset)
root = args.root or str(Path(os.environ.get("PYG_KD_DATA", "data")) / str(folder))
label = args.dataset
try:
    if args.dataset == "citeulike":
        data = CiteULike(root)[0]
    elif args.dataset == "movielens-100k":
        data = MovieLens100K(root)[0]
except OSError as error:
    if args.strict:
        raise SystemExit(f"{args.dataset} is unavailable: {error}") from error
    print(f"{error}\n{args.dataset} is unavailable: using SYNTHETIC data instead", flush=True)
    args.dataset = "synthetic"
if args.dataset == "synthetic":
    label = "SYNTHETIC"
    data = SyntheticInteractions(num_users=1_000, num_items=800, num_edges=50_000, seed=0)[0]
train, val, test = UserSplit(val=0.2, test=0.2, seed=0)(data)
sparse = args.dataset == "citeulike"
student_dim = args.student_dim or (20 if sparse else 8)
epochs = args.epochs or (60 if args.fast else 200)
teacher_epochs = args.teacher_epochs or (16 if args.fast else 100)
args.out.mkdir(parents=True, exist_ok=True)


def fit(model, graph, max_epochs, *, distillations=(), callbacks=(), **options):
    options = {"batch_size": 1024, "lr": 0.003, "seed": 0, "metric": "recall@50"} | options
    trainer = Trainer(max_epochs=max_epochs, progress=sys.stderr.isatty(), **options)
    return trainer.fit(model, graph, val_data=val, distillations=distillations, callbacks=callbacks)


def measure(model, targets):
    found = evaluate(model, train, targets, k=(10, 50), metrics=("recall", "ndcg"))
    return {name: found[metric] for name, metric in METRICS.items()}


# 2. The teachers, each with its trajectory: three early states and the final one.
def train_teacher(name):
    torch.manual_seed(0)
    make, options = TEACHERS[name]
    seconds, best = [], None
    if options is None:
        teacher, recorder = make(train), TrajectoryRecorder(num_states=1)
    else:
        teacher = make(train, args.teacher_dim)
        recorder = TrajectoryRecorder([0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
        options = {"evaluate_every": 2, "patience": 5} | options
        history = fit(teacher, train, teacher_epochs, callbacks=[recorder], **options)
        seconds = history["seconds"]
        # Early states come before the best epoch; a teacher that peaks at once has none.
        best = history.best_epoch if history.best_epoch >= 3 else None
    trajectory = recorder.finish(teacher, train, before=best)
    save_knowledge(attach_trajectories(train, [trajectory]), trajectory_path(name))
    row = {"model": f"teacher {name}", **measure(teacher, test)}
    if seconds:
        row |= {"epochs": len(seconds), "s/epoch": statistics.mean(seconds)}
    validation = measure(teacher, val)["R@50"]
    found = {"options": teacher_options, "row": row, "validation": validation}
    trajectory_path(name).with_suffix(".json").write_text(json.dumps(found))


def trajectory_path(name):
    return args.out / f"teacher-{name}.safetensors"


def teacher_result(name):
    path = trajectory_path(name).with_suffix(".json")
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("options") == teacher_options else None


def in_own_process(name):
    command = [sys.executable, *sys.argv, "--one-teacher", name]
    print(f"teacher {name}: training, up to {teacher_epochs} epochs", flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"teacher {name} could not be trained:\n{done.stderr}")
    found = teacher_result(name)
    print(
        f"teacher {name}: {found['row'].get('epochs', 'no')} epochs, "
        f"validation R@50 {found['validation']:.4f}",
        flush=True,
    )


teacher_options = {"data": label, "epochs": teacher_epochs, "dim": args.teacher_dim}
if args.one_teacher:
    torch.set_num_threads(max(threads // args.jobs, 1))
    train_teacher(args.one_teacher)
    raise SystemExit

print(
    f"{label}: {train['user'].num_nodes:,} users, {train['item'].num_nodes:,} items, "
    f"{train['user', 'item'].num_edges:,} training edges",
    flush=True,
)
with ThreadPoolExecutor(args.jobs) as pool:
    list(pool.map(in_own_process, [t for t in args.teachers if teacher_result(t) is None]))
results = {name: teacher_result(name) for name in args.teachers}
trajectories = []
for name in args.teachers:
    one = load_knowledge(trajectory_path(name), train)
    states = one["user"].teacher_trajectory[:, 0], one["user"].teacher_observed[:, 0]
    trajectories.append(Trajectory(*states, one.graph_fingerprint, *one.trajectory_fingerprints))
graph = attach_trajectories(train, trajectories, pad=True)
save_knowledge(graph, args.out / "trajectories.safetensors")
rows = [found["row"] for found in results.values()]


# 3. Their ensemble, and the graphs that RRD learns from: one list per user.
class Ranked(torch.nn.Module):
    """Ranks by a given list per user, with all other items last."""

    def __init__(self, lists):
        super().__init__()
        self.lists = lists.long()

    def forward(self, data):
        return {t: torch.arange(data[t].num_nodes).unsqueeze(1) for t in ("user", "item")}

    def score_block(self, x_user, x_item):
        place = self.lists[x_user.squeeze(1)] - x_item[0]
        # Items outside the block go to an extra column, which is cut off.
        place[(place < 0) | (place >= len(x_item))] = len(x_item)
        rank = torch.arange(place.size(1), dtype=torch.float32).expand(place.shape)
        scores = torch.full((len(x_user), len(x_item) + 1), -torch.inf)
        return scores.scatter(1, place, -rank)[:, :-1]


def with_lists(lists, name):
    other = copy.copy(graph)
    other["user"].teacher_items, other.teacher_fingerprint = lists, name
    return other


final = HetComp(dynamic=False).bind(graph, student_dim)
ensemble = final.lists[:, -final.num_listed :]
rows.append({"model": "ensemble", **measure(Ranked(ensemble), test)})
best = max(results, key=lambda name: results[name]["validation"])
from_best = with_lists(trajectories[args.teachers.index(best)].items[:, -1], best)
from_ensemble = with_lists(ensemble, "ensemble")

# The same teachers fused with weights chosen on the validation items. Other than the ensemble of
# HetComp, it says how sure it is of a place.
finals = zip([t.items[:, -1] for t in trajectories], args.teachers, strict=True)
lasts = [with_lists(lists, name) for lists, name in finals]
fused = fuse(lasts, val_data=val, metric="recall@50", num_items=150)
rows.append({"model": "fused by validation", **measure(Ranked(fused["user"].teacher_items), test)})
weights = dict(zip(args.teachers, fused.teacher_weights, strict=True))
print(f"fused by validation: {weights}", flush=True)

# 4. The students. HetComp and soft labels train on their own loss alone, in batches of users; the
# others train on BPR over all interactions, which takes many more steps an epoch, and stop early.
kept = {"data": label, "teachers": args.teachers, "seeds": args.seeds}
kept |= {"teacher dim": args.teacher_dim, "student dim": student_dim, "epochs": epochs}
progress, curves, done = [], {}, {}
earlier = args.out / "comparison.json"
earlier = json.loads(earlier.read_text()) if earlier.exists() else {"rows": []}
same = all(earlier.get(key) == value for key, value in kept.items())
for row, other in zip(rows[: len(results)], earlier["rows"], strict=False):
    same = same and all(row[metric] == other[metric] for metric in METRICS)
if same:
    progress, curves = earlier["progress"], earlier["curves"]
    done = {row["model"]: row for row in earlier["rows"]}


def watched(method):
    """Record every few epochs where the pointers are and how far the student still has to go."""

    def callback(epoch, model, data):
        if epoch % 5 == 0:
            distance = method.states.discrepancy(model(data)).mean(0)
            pointer = method.states.pointer.float().mean(0)
            progress.append((epoch + 1, pointer.tolist(), distance.tolist()))

    return callback


plain = {"max_epochs": epochs, "evaluate_every": 5, "num_negatives": 5}
plain["weight_decay"] = 3e-3 if sparse else 1e-5
users = {"max_epochs": epochs, "batch_by": "user", "batch_size": 256 if sparse else 64, "lr": 0.01}
users |= {"base_weight": 0.0, "evaluate_every": 5, "patience": None}
# As `pyg_kd.compress` trains.
labelled = users | {"max_epochs": epochs // 2, "batch_size": users["batch_size"], "lr": 0.02}
labelled |= {"schedule": "cosine", "warmup": 0.05}
own_items = {"num_listed": 150, "temperature": (8, 40), "mixture": (0.3, 0.7), "own": "mask"}
share = min(1.0, 8_400 / train["item"].num_nodes)
interval = max(epochs // 20, 1)
students = {
    "student alone": (graph, plain, 0, lambda: None),
    f"RRD from {best}": (from_best, plain, 3e-3, lambda: RelaxedRankingDistillation()),
    "RRD from the ensemble": (from_ensemble, plain, 3e-3, lambda: RelaxedRankingDistillation()),
    "RCE-KD from the fused": (fused, plain, 30, lambda: RejuvenatedCrossEntropy()),
    "SoftLabel from the fused": (fused, labelled, 1, lambda: SoftLabel(**own_items, share=share)),
    "HetComp": (graph, users, 0.01, lambda: HetComp(interval=interval)),
    "- dynamic construction": (
        graph, users, 0.01, lambda: HetComp(interval=interval, dynamic=False)
    ),
    "- adaptive transfer": (graph, users, 0.01, lambda: HetComp(interval=interval, adaptive=False)),
    "- both": (graph, users, 0.01, lambda: HetComp(dynamic=False, adaptive=False)),
}  # fmt: skip
for name in args.students or ():
    if name not in students:
        raise SystemExit(f"--students must be out of {[*students]} (got {name!r})")
for name, (knowledge, options, weight, make) in students.items():
    if name in done:
        rows.append(done[name])
        continue
    if args.students and name not in args.students:
        continue
    found = []
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        # A loss over the whole catalogue needs larger initial embeddings than BPR.
        student = MF(knowledge, student_dim, **({} if options is plain else {"init_std": 0.1}))
        method = make()
        history = fit(
            student,
            knowledge,
            **options,
            seed=seed,
            distillations=[] if method is None else [(method, weight)],
            callbacks=[watched(method)] if name == "HetComp" and seed == 0 else [],
        )
        found.append(measure(student, test))
        curves.setdefault(name, [(r["epoch"], r["recall@50"]) for r in history if "recall@50" in r])
    row = {"model": name, "epochs": len(history), "s/epoch": statistics.mean(history["seconds"])}
    for metric in METRICS:
        row[metric] = statistics.mean(f[metric] for f in found)
        if args.seeds > 1:
            row[f"{metric} deviation"] = statistics.stdev(f[metric] for f in found)
    rows.append(row)
    print(f"{name}: R@50 {row['R@50']:.4f}, {len(history)} epochs", flush=True)

# 5. The results: a table, the numbers, a figure.
print(
    f"\n{label}, teachers {args.teacher_dim} wide, students {student_dim} wide, "
    f"{args.seeds} seed(s)"
)
header = f"{'model':24}" + "".join(f"{name:>8}" for name in METRICS)
print(f"{header} {'epochs':>6} {'s/epoch':>8}")
for row in rows:
    values = "".join(f"{row[name]:8.4f}" for name in METRICS)
    cost = f"{row['epochs']:6d} {row['s/epoch']:8.2f}" if "epochs" in row else ""
    print(f"{row['model']:24}{values} {cost}")
kept |= {"rows": rows, "progress": progress, "weights": weights}
kept["machine"] = f"{os.cpu_count()} cores, {threads} threads, PyTorch {torch.__version__}"
(args.out / "comparison.json").write_text(json.dumps(kept | {"curves": curves}, indent=1))
print(f"wrote trajectories.safetensors and comparison.json to {args.out}")

try:
    import matplotlib
except ImportError:
    print('no figure: Matplotlib is missing, pip install "pyg_kd[plot]"')
    raise SystemExit from None
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
figure.suptitle(f"HetComp, {label}")
epoch = [e for e, _, _ in progress]
for x, name in enumerate(args.teachers):
    for axis, column in zip(axes, (1, 2), strict=False):
        axis.plot(epoch, [step[column][x] for step in progress], label=name)
axes[0].set(xlabel="epoch", ylabel="mean pointer to the teacher's states")
axes[0].set_yticks(range(graph["user"].teacher_trajectory.size(2)))
axes[1].set(xlabel="epoch", ylabel="mean discrepancy to the final state", ylim=(0, None))
axes[1].legend()
for name, curve in curves.items():
    if name in students and students[name][1] is not plain:
        axes[2].plot([e + 1 for e, _ in curve], [v for _, v in curve], label=name)
axes[2].set(xlabel="epoch", ylabel="validation Recall@50", ylim=(0, None))
axes[2].legend()
for axis in axes:
    axis.xaxis.get_major_locator().set_params(integer=True)
figure.savefig(args.out / "progress.png", dpi=150)
print(f"drew {args.out / 'progress.png'}")
