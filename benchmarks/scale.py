"""How every stage grows with the graph, up to two million users.

    python benchmarks/scale.py                    # 2.5, 10 and 40 million edges
    python benchmarks/scale.py --edges 10_000_000 --grow 1 --stages epoch extraction
    python benchmarks/scale.py --grow 1 --users 4_000_000   # the same edges, twice the users

A graph of ``E`` edges has ``E / 20`` users and ``E / 200`` items, drawn by SyntheticInteractions,
and one user with half of the catalogue and one item with half of the users besides. Sizes are a
quarter each of the next one, and every stage and size is a process of its own, so that its peak
memory is its own. Exponents are of CPU seconds against edges, by least squares of the logarithms.

Batches hold 8,192 interactions, those of SoftLabel 256 users. The lists that students learn from
are drawn at random: a step takes as long as with a teacher's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from report import table, write

import pyg_kd as kd
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.datasets.graph import interaction_graph
from pyg_kd.graph import interactions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.knowledge.requirements import graph_fingerprint, name_source
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.transforms import UserSplit

BATCH, DIM, TEACHER_DIM, LISTED = 8_192, 20, 64, 100
#: Users that are ranked for, whatever the size.
RANKED = 20_000


def graph_of(args: argparse.Namespace) -> Any:
    """The graph, with its two hubs."""
    num_users, num_items = args.users or args.edges // 20, args.edges // 200
    data = SyntheticInteractions(
        num_users=num_users, num_items=num_items, num_edges=args.edges, seed=0
    )[0]
    edges = data["user", "interacts", "item"].edge_index
    items, users = torch.arange(0, num_items, 2), torch.arange(0, num_users, 2)
    user = torch.cat([edges[0], torch.zeros_like(items), users])
    item = torch.cat([edges[1], items, torch.zeros_like(users)])
    return interaction_graph(user, item, num_users, num_items)


def listed(data: Any) -> Any:
    """The graph with random lists, as a teacher of another kind would leave them."""
    sizes = data["user"].num_nodes, data["item"].num_nodes
    name_source(data, graph_fingerprint(data), "0" * 64)
    data.teacher_inner_product = False
    start = torch.randint(sizes[1], (sizes[0], 1), dtype=torch.int32)
    stride = sizes[1] // LISTED  # distinct items
    data["user"].teacher_items = (start + torch.arange(LISTED, dtype=torch.int32) * stride) % (
        sizes[1]
    )
    return data


def fit(data: Any, distillations: list[Any], **options: Any) -> dict[str, float]:
    """An epoch, and what ``fit`` does before and after it."""
    torch.manual_seed(0)
    trainer = Trainer(**{"max_epochs": 1, "batch_size": BATCH, **options})
    start, cpu = time.perf_counter(), time.process_time()
    history = trainer.fit(MF(data, DIM, init_std=0.1), data, distillations=distillations)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    share = history["seconds"][0] / seconds
    return {
        "seconds": history["seconds"][0], "CPU seconds": cpu * share, "bind": seconds * (1 - share)
    }  # fmt: skip


def timed(function: Callable[[], Any]) -> dict[str, float]:
    start, cpu = time.perf_counter(), time.process_time()
    function()
    return {"seconds": time.perf_counter() - start, "CPU seconds": time.process_time() - cpu}


def soft_labels(data: Any) -> dict[str, float]:
    share = min(1.0, 8_400 / data["item"].num_nodes)
    method = kd.SoftLabel(num_listed=LISTED, share=share)
    options: dict[str, Any] = {"batch_by": "user", "batch_size": 256, "base_weight": 0.0}
    return fit(listed(data), [(method, 1.0)], **options)


def ranked(data: Any) -> torch.Tensor:
    return torch.randperm(data["user"].num_nodes)[:RANKED].sort().values


def evaluation(data: Any) -> dict[str, float]:
    train, _, test = UserSplit(seed=0)(data)
    store = test["user", "interacts", "item"]
    few = torch.isin(store.edge_label_index[0], ranked(data))
    store.edge_label_index = store.edge_label_index[:, few]
    store.pop("edge_label_time", None)
    return timed(lambda: kd.evaluate(MF(train, DIM), train, test, k=50))


STAGES: dict[str, Callable[[Any], dict[str, float]]] = {
    "split": lambda data: timed(lambda: UserSplit(seed=0)(data)),
    "edges sorted by user and item": lambda data: timed(
        lambda: (interactions(data).by_user(), interactions(data).by_item())
    ),
    "epoch": lambda data: fit(data, []),
    "epoch, all rows": lambda data: fit(data, [], sparse=False),
    "epoch of SoftLabel": soft_labels,
    "epoch of RRD": lambda data: fit(
        listed(data), [(kd.RelaxedRankingDistillation(num_uninteresting=40), 1e-3)]
    ),
    "extraction": lambda data: timed(
        lambda: extract_knowledge(
            MF(data, TEACHER_DIM), data, num_items=LISTED, users=ranked(data), progress=False
        )
    ),
    "evaluation": evaluation,
}
#: Takes hours where there are many users.
NOT_ALWAYS = ("epoch, all rows",)


def one(args: argparse.Namespace) -> dict[str, float]:
    """A stage, in this process; ``"data"`` is what comes before all others."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    start, cpu = time.perf_counter(), time.process_time()
    data = graph_of(args)
    row = {"seconds": time.perf_counter() - start, "CPU seconds": time.process_time() - cpu}
    if args.only != "data":
        row = STAGES[args.only](data)
    row["peak GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    row["edges"] = data["user", "interacts", "item"].num_edges
    return row


def run(stage: str, edges: int, args: argparse.Namespace) -> dict[str, float] | None:
    """A stage in a process of its own; nothing if it takes too long."""
    words = ["--only", stage, "--edges", str(edges), "--threads", str(args.threads)]
    if args.users:
        words += ["--users", str(args.users)]
    command = [sys.executable, __file__, *words]
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, timeout=60 * args.minutes
        )
    except subprocess.TimeoutExpired:
        print(f"{stage}, {edges:,} edges: more than {args.minutes} minutes", flush=True)
        return None
    row: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    print(stage, {k: round(v, 2) for k, v in row.items()}, flush=True)
    return row


def exponent(rows: list[dict[str, float]]) -> float | None:
    """Of CPU seconds against edges."""
    if len(rows) < 2:
        return None
    x, y = (np.log([row[name] for row in rows]) for name in ("edges", "CPU seconds"))
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edges", type=int, default=40_000_000, help="of the largest graph")
    parser.add_argument("--users", type=int, help="instead of a twentieth of the edges")
    parser.add_argument("--grow", type=int, default=3, help="how many sizes")
    parser.add_argument("--stages", nargs="+", choices=["data", *STAGES])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=30.0, help="for a stage")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(one(args)))
        return
    torch.set_num_threads(args.threads)
    sizes = [args.edges // 4**step for step in reversed(range(args.grow))]
    stages = args.stages or ["data", *(name for name in STAGES if name not in NOT_ALWAYS)]
    found = {}
    for stage in stages:
        rows = [row for size in sizes if (row := run(stage, size, args)) is not None]
        found[stage] = {"rows": rows, "exponent": exponent(rows)}
    lines = [
        [name, *(f"{row['seconds']:.1f}" for row in of["rows"]), of["exponent"] or "-",
         max((row["peak GB"] for row in of["rows"]), default=float("nan"))]
        for name, of in found.items()
    ]  # fmt: skip
    table(["stage", *(f"{size:,}" for size in sizes), "exponent", "peak GB"], lines)
    name = "scale" if args.users is None else "scale_users"
    write(name, {"batch": BATCH, "ranked users": RANKED, "stages": found})


if __name__ == "__main__":
    main()
