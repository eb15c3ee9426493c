"""From ``fit`` to the first step of the optimiser: what reading a graph and its knowledge costs.

    python benchmarks/bind.py --against CHECKOUT
    python benchmarks/bind.py --num-users 1000000 --num-items 100000 --num-edges 20000000
    python benchmarks/bind.py --grow

A student under HTD and RRD, with made-up knowledge, on SyntheticInteractions. A step is one start
of training on edges and knowledge that nobody has looked at yet. CPU seconds of one thread, of
the fastest start; ``added GB`` is what peak memory exceeds the graph and its knowledge by. Needs
Linux. ``--grow`` takes five sizes, each twice the one before.
"""

from __future__ import annotations

import argparse
import copy
from math import log
from pathlib import Path
from typing import Any

import torch
from against import HERE, Checkout, Clock, answer, forget_peak, in_turn, steps, version
from report import table, write
from torch import nn
from torch_geometric.data import HeteroData

import pyg_kd as kd
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import graph_fingerprint
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.training.losses import BPR

SIZES = ("num_users", "num_items", "num_edges")
DOUBLINGS = 4


class FirstBatch(Exception):
    """Ends a run after its first batch."""


class OneBatch(nn.Module):
    """BPR for one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.loss, self.called = BPR(), False

    def forward(self, x_dict, batch):
        if self.called:
            raise FirstBatch
        self.called = True
        return self.loss(x_dict, batch)


def with_knowledge(data: HeteroData, width: int, length: int) -> HeteroData:
    """Random vectors, and lists of distinct items, as a teacher's would be."""
    graph = copy.copy(data)
    for node_type in ("user", "item"):
        graph[node_type].teacher_x = torch.randn(data[node_type].num_nodes, width)
    users, items = data["user"].num_nodes, data["item"].num_nodes
    # Steps around a ring, from a random start: distinct as long as the step shares no divisor.
    steps = torch.arange(1, items)
    steps = steps[steps.gcd(torch.tensor(items)) == 1]
    step = steps[torch.randint(len(steps), (users,))]
    place = torch.randint(items, (users,))
    lists = torch.empty(users, length, dtype=torch.int32)
    for column in lists.t():
        column.copy_(place)
        place = (place + step).remainder_(items)
    graph["user"].teacher_items = lists
    graph.graph_fingerprint = graph_fingerprint(data)
    graph.teacher_fingerprint, graph.teacher_inner_product = "0" * 64, True
    return graph


def unseen(graph: HeteroData) -> HeteroData:
    """A copy with tensors of its own, of which nothing is known yet."""
    fresh = copy.copy(graph)
    for store in (*fresh.node_stores, *fresh.edge_stores):
        for name, value in store.items():
            if isinstance(value, torch.Tensor):
                store[name] = value.clone()
    return fresh


def start(graph: HeteroData, batch_size: int) -> None:
    """Train until the second batch begins."""
    student = MF(graph, dim=16)
    methods = [(kd.TopologyDistillation(), 1e-3), (kd.RelaxedRankingDistillation(), 1e-3)]
    trainer = Trainer(max_epochs=1, batch_size=batch_size, loss=OneBatch(), progress=False)
    try:
        trainer.fit(student, graph, distillations=methods)
    except FirstBatch:
        return
    raise ValueError(f"'batch_size' must be less than the number of edges (got {batch_size})")


def measure(args: argparse.Namespace) -> None:
    """A start of training whenever one is asked for."""
    sizes = {name: getattr(args, name) for name in SIZES}
    torch.manual_seed(0)
    data = SyntheticInteractions(None, **sizes, seed=0)[0]
    edges = data["user", "item"]
    edges.edge_index = edges.edge_index[:, edges.time.argsort()]  # as a log has them
    graph = with_knowledge(data, args.width, args.length)
    del data
    for _ in steps(kd):
        fresh = unseen(graph)
        held = forget_peak()
        clock = Clock()
        start(fresh, args.batch_size)
        row = clock.read()
        answer({**row, "added GB": row["peak GB"] - held})
        del fresh


def compare(args: argparse.Namespace, sizes: dict[str, int]) -> dict[str, Any]:
    """The fastest starts of every checkout, which alternate."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
    options += [f"--{name}={getattr(args, name)}" for name in ("width", "length", "threads")]
    options += [f"--batch-size={args.batch_size}", "--step"]
    roots = {"now": HERE} if args.against is None else {"before": args.against, "now": HERE}
    checkouts = [Checkout(root, __file__, options) for root in roots.values()]
    found = in_turn(checkouts, args.repeats)
    row: dict[str, Any] = dict(sizes)
    for when, rows in zip(roots, found, strict=True):
        row[when] = {key: min(step[key] for step in rows[1:] or rows) for key in rows[0]}
    print(row, flush=True)
    return row


def slope(rows: list[dict[str, Any]], key: str) -> float:
    """By which power of the size a value grows, between the last size and the first."""
    first, last = rows[0], rows[-1]
    return log(last["now"][key] / first["now"][key]) / log(last["num_edges"] / first["num_edges"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-users", type=int, default=100_000)
    parser.add_argument("--num-items", type=int, default=10_000)
    parser.add_argument("--num-edges", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=64, help="of the teacher's vectors")
    parser.add_argument("--length", type=int, default=100, help="of the teacher's lists")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3, help="after a first start; 0: only it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with that one")
    parser.add_argument("--grow", action="store_true", help="up to sixteen times the size")
    parser.add_argument("--step", action="store_true", help="measure whenever asked to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.step:
        measure(args)
        return
    times = [2**i for i in range(DOUBLINGS + 1)] if args.grow else [1]
    rows = [compare(args, {name: n * getattr(args, name) for name in SIZES}) for n in times]
    result: dict[str, Any] = {"rows": rows, "repeats": args.repeats, "now": version(HERE)}
    if args.against is not None:
        result["before"] = version(args.against)
    if args.grow:
        result["growth"] = {key: slope(rows, key) for key in ("CPU seconds", "added GB")}
    cells = [
        [f"{row['num_users']:,}", f"{row['num_edges']:,}", when, *row[when].values()]
        for row in rows
        for when in ("before", "now")
        if when in row
    ]
    table(["users", "edges", "version", *rows[0]["now"]], cells)
    write("bind_growth" if args.grow else "bind", result)


if __name__ == "__main__":
    main()
