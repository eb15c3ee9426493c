"""A million users: extraction for a part of them and one epoch of a narrow student.

    python benchmarks/scale.py

SyntheticInteractions of 1,000,000 users, 100,000 items, 20 M edges; prints seconds and the peak
resident memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from report import write

from pyg_kd import RelaxedRankingDistillation
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF
from pyg_kd.training import Trainer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--num-users", type=int, default=1_000_000)
parser.add_argument("--num-items", type=int, default=100_000)
parser.add_argument("--num-edges", type=int, default=20_000_000)
parser.add_argument("--ranked-users", type=int, default=50_000)
parser.add_argument("--batch-size", type=int, default=131_072)
parser.add_argument("--distil", action="store_true", help="train under RRD and not alone")
args = parser.parse_args()


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


seconds, memory = {}, {}


def step(name, function):
    start = time.perf_counter()
    result = function()
    seconds[name], memory[name] = time.perf_counter() - start, peak()
    print(f"{name}: {seconds[name]:.1f} s, peak so far {memory[name]:.2f} GB", flush=True)
    return result


sizes = {"num_users": args.num_users, "num_items": args.num_items, "num_edges": args.num_edges}
data = step("data", lambda: SyntheticInteractions(None, **sizes, seed=0)[0])
torch.manual_seed(0)
teacher = MF(data, dim=64)
users = torch.randperm(args.num_users)[: args.ranked_users]
graph = step("extraction", lambda: extract_knowledge(
    teacher, data, num_items=100, users=users, progress=True
))  # fmt: skip
student = MF(graph, dim=16)
methods = [(RelaxedRankingDistillation(), 1e-3)] if args.distil else []
trainer = Trainer(max_epochs=1, batch_size=args.batch_size)
step("epoch", lambda: trainer.fit(student, graph, distillations=methods))
write("scale", {**vars(args), "seconds": seconds, "peak GB": memory})
