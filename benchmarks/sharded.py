"""What a step on sharded tables costs, and what each process holds, on one and on more processes.

    python benchmarks/sharded.py                       # one and two processes, by turns
    python benchmarks/sharded.py --processes 1 2 4 --users 500_000 --items 50_000

Two million users and 200,000 items at width 20 by default, with two interactions a user, so that
tables and not edges take the memory. A step takes 8,192 interactions of all processes together.
Bytes are those of rows, gradients and their numbers that leave a process, counted by where rows
lie. Memory is what a process has in RAM once the tables are made, less what it had before.

Seconds are of CPU: medians of steps, added up over the processes, which wait for each other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from report import RESULTS, table, write
from torch import distributed as dist
from torch_geometric.data import HeteroData

from pyg_kd import RelaxedRankingDistillation, SoftLabel, TopologyDistillation
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge.requirements import graph_fingerprint, name_source
from pyg_kd.loader import InteractionLoader
from pyg_kd.sharding import ShardedMF, ShardedTrainer, launch
from pyg_kd.sharding.objective import ShardedObjective
from pyg_kd.sharding.reading import rows_read

BATCH, DIM, TEACHER_DIM, LISTED = 8_192, 20, 32, 20

METHODS = {
    "alone": lambda: [],
    "RRD": lambda: [
        (RelaxedRankingDistillation(num_interesting=10, num_uninteresting=10, num_ranked=20), 0.1)
    ],
    "SoftLabel, list": lambda: [(SoftLabel(num_listed=20, tail="list"), 0.1)],
    "FTD": lambda: [(TopologyDistillation("full"), 1e-4)],
}


def resident() -> int:
    """Bytes that this process has in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def graph_of(options: dict[str, Any]) -> HeteroData:
    """A graph with random lists and vectors, which cost what a teacher's would."""
    data = SyntheticInteractions(
        num_users=options["users"],
        num_items=options["items"],
        num_edges=2 * options["users"],
        seed=0,
    )[0]
    name_source(data, graph_fingerprint(data), "0" * 64)
    start = torch.randint(options["items"], (options["users"], 1), dtype=torch.int32)
    stride = options["items"] // LISTED  # distinct items
    lists = start + torch.arange(LISTED, dtype=torch.int32) * stride
    data["user"].teacher_items = lists % options["items"]
    for name, size in (("user", options["users"]), ("item", options["items"])):
        data[name].teacher_x = torch.randn(size, TEACHER_DIM)
    return data


def work(options: dict[str, Any], name: str, data: HeteroData) -> dict[str, float]:
    """What a process does, and what all of them measured."""
    torch.manual_seed(0)
    trainer = ShardedTrainer(batch_size=BATCH, progress=False)
    methods = METHODS[name]()
    for method, _ in methods:
        method.bind(data, DIM)
    loader = InteractionLoader(data, BATCH)
    small = SyntheticInteractions(num_users=10, num_items=10, num_edges=20)[0]
    ShardedMF(small, DIM)  # imports what it needs
    before = resident()
    model = ShardedMF(data, DIM, sharding=options["sharding"])
    model.set_rate(0.05)
    held = resident() - before
    objective = ShardedObjective(trainer.options, model, data, methods)
    cpu, sent = [], []
    for number, batch in zip(range(options["steps"] + 5), loader, strict=False):
        if number >= 5:
            sent.append(bytes_sent(objective, model, data, batch))
        start = time.process_time()
        objective.step(batch)
        if number >= 5:
            cpu.append(time.process_time() - start)
    own = {
        "CPU ms": 1e3 * statistics.median(cpu),
        "MB sent": statistics.mean(sent) / 1e6,
        "tables and optimiser, MB": model.local_bytes / 1e6,
        "made, MB": held / 1e6,
    }
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    found = {
        "CPU ms, all": sum(each["CPU ms"] for each in gathered),
        "CPU ms, most": max(each["CPU ms"] for each in gathered),
    }
    rest = [key for key in own if key != "CPU ms"]
    return found | {f"{key}, most": max(each[key] for each in gathered) for key in rest}


def bytes_sent(
    objective: ShardedObjective, model: ShardedMF, data: HeteroData, whole: Any
) -> float:
    """Bytes that leave this process in a step: numbers it asks for, gradients, and rows it gives.

    Rows that it gives are as many as it asks for, in the mean over the processes.
    """
    rank, count = dist.get_rank(), dist.get_world_size()
    ids, remote = rows_read(objective.owners, data, whole.share(rank, count, lambda x: x)), 0
    for name, size in model.sizes.items():
        asked = torch.arange(size) if ids[name] is None else ids[name]
        if model.sharding == "row":
            remote += int((asked // -(-size // count) != rank).sum())
        else:
            remote += len(asked) * (rank != (0 if name == "user" else 1 % count))
    return remote * (8 + 2 * 4 * DIM)


def measured_before(sizes: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Rows of the file of results, where they are of the same sizes."""
    path = RESULTS / "sharded.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    same = all(told.get(key) == value for key, value in sizes.items())
    return told["rows"] if told and same else {}


def main() -> None:
    """Measure all methods on all numbers of processes, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sharding", choices=["row", "table"], default="row")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=2, help="by turns; the least is taken")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    args = parser.parse_args()
    options = vars(args)
    torch.set_num_threads(1)
    data = graph_of(options)  # in memory that all processes share
    sizes = {key: options[key] for key in ("users", "items", "sharding", "steps")}
    rows = measured_before(sizes)
    for name in args.methods:
        rows.pop(name, None)
    for _ in range(args.runs):
        for name in args.methods:
            for count in args.processes:
                found = launch(
                    work, options, name, data, num_processes=count, num_threads=1, accelerator="cpu"
                )
                known = rows.setdefault(name, {}).get(str(count), found)
                rows[name][str(count)] = {key: min(known[key], found[key]) for key in found}
                print(name, count, json.dumps(rows[name][str(count)]), flush=True)
                if not args.dry:
                    write("sharded", {**sizes, "batch": BATCH, "dim": DIM, "rows": rows})
    table(
        ["", "processes", *found],
        [
            [name, count, *(f"{value:.1f}" for value in found.values())]
            for name, counts in rows.items()
            for count, found in counts.items()
        ],
    )


if __name__ == "__main__":
    main()
