"""Lists of many users in shards, beside the same in memory.

    python benchmarks/shards.py                  # 100,000 users of 10,000 items, widths 20 and 200
    python benchmarks/shards.py --widths 64 --items 5_000

Every row is a process of its own, which makes the graph first. CPU seconds are those of the process
and its workers while it extracts, with one thread each. Memory is the largest sum of proportional
set sizes of the process and its workers, looked at twice a second: pages that several processes
share count once. *in memory* is ``extract_knowledge``, whose lists the shards are compared with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import RESULTS, table, write

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge, extract_shards, load_shards
from pyg_kd.models import MF

LISTED = 100
#: Users of a file, a whole number of blocks of users: rounding is that of the lists in memory.
SHARD = 8_360
#: The width at which items are listed, too.
MIDDLE = 20

#: What is extracted, as options: length of the lists of items, and how.
ROWS: dict[str, dict[str, Any]] = {
    "in memory": {},
    "shards, 1 worker": {"workers": 1},
    "shards, 2 workers": {"workers": 2},
}
BOTH: dict[str, dict[str, Any]] = {
    "users' and items' lists, in memory": {"num_users": LISTED},
    "items' lists alone, in memory": {"num_users": LISTED, "num_items": 0},
    "users' and items' lists, 2 workers": {"num_users": LISTED, "workers": 2},
}


def graph(args: argparse.Namespace) -> Any:
    return SyntheticInteractions(
        num_users=args.users, num_items=args.items, num_edges=20 * args.users, seed=0
    )[0]


def teacher(data: Any, dim: int) -> MF:
    torch.manual_seed(0)
    return MF(data, dim, init_std=0.1)


def cpu_seconds() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


def digest(lists: torch.Tensor) -> str:
    return hashlib.sha256(lists.numpy().tobytes()).hexdigest()[:16]


def one(args: argparse.Namespace) -> dict[str, Any]:
    """A row, in this process."""
    torch.set_num_threads(1)
    data = graph(args)
    model = teacher(data, args.dim)
    options = {"num_items": LISTED} | (ROWS | BOTH)[args.only]
    # The edges are sorted once for all that is done with a graph.
    extract_knowledge(model, data, num_items=1, users=[0])
    start, cpu = time.perf_counter(), cpu_seconds()
    row: dict[str, Any] = {"GB before": memory(str(os.getpid()))}
    if "workers" not in options:
        found = extract_knowledge(model, data, **options)
        row |= {"seconds": time.perf_counter() - start, "CPU seconds": cpu_seconds() - cpu}
    else:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            extract_shards(model, data, folder, rows=SHARD, **options)
            row |= {"seconds": time.perf_counter() - start, "CPU seconds": cpu_seconds() - cpu}
            files = [path.stat().st_size for path in Path(folder).iterdir()]
            row |= {"files": len(files), "file GB": sum(files) / 1e9}
            cpu = cpu_seconds()
            found = load_shards(folder, data)
            row["CPU seconds to load"] = cpu_seconds() - cpu
    lists = [(found[t].get(n)) for t, n in (("user", "teacher_items"), ("item", "teacher_users"))]
    return row | {"lists": [digest(x) for x in lists if x is not None]}


def memory(pid: str) -> float:
    """Proportional set size of a process and its children, in GB."""
    total = 0.0
    for process in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(float(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e6
    return total


def children(pid: str) -> list[str]:
    try:
        own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return own + [other for child in own for other in children(child)]


def run(name: str, dim: int, args: argparse.Namespace) -> dict[str, Any]:
    """A row in a process of its own, watched from here."""
    words = ["--only", name, "--dim", str(dim), "--users", str(args.users)]
    words += ["--items", str(args.items), "--folder", args.folder]
    command = [sys.executable, __file__, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, memory(str(process.pid)))
            time.sleep(0.5)
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{name} failed")
    row: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    row["peak GB"] = peak
    print(name, dim, {k: np.round(v, 3) for k, v in row.items() if k != "lists"}, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--widths", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--rows", nargs="+", default=[*ROWS, *BOTH], choices=[*ROWS, *BOTH])
    parser.add_argument("--keep", action="store_true", help="all other rows of the results")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where shards go")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--dim", type=int, default=20, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(one(args)))
        return
    torch.set_num_threads(1)
    measured = [
        (str(dim), name, run(name, dim, args))
        for dim in args.widths
        for name in args.rows
        if name in ROWS or dim == MIDDLE
    ]
    path = RESULTS / "shards.json"
    found = json.loads(path.read_text())["widths"] if args.keep and path.exists() else {}
    for width, name, row in measured:
        found.setdefault(width, {})[name] = row
    lines = []
    for width, rows in found.items():
        for name, row in rows.items():
            own = rows.get("in memory", row)
            same = set(own["lists"]) <= set(row["lists"]) or name.startswith("items'")
            ratio = row["CPU seconds"] / own["CPU seconds"]
            lines.append([width, name, row["CPU seconds"], ratio, row["peak GB"], same])
    table(["width", "row", "CPU seconds", "of memory's", "peak GB", "same lists"], lines)
    sizes = {"users": args.users, "items": args.items, "listed": LISTED, "rows": SHARD}
    write("shards", {**sizes, "widths": found})


if __name__ == "__main__":
    main()
