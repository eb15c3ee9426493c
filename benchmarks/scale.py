"""How every stage grows with the graph, up to two million users.

    python benchmarks/scale.py                    # 2.5, 10 and 40 million edges
    python benchmarks/scale.py --stages split --keep   # one stage, the others as they were
    python benchmarks/scale.py --edges 10_000_000 --users 500_000 1_000_000   # equal edges
    python benchmarks/scale.py --catalogue 500_000 50_000   # equal users and items, more edges
    python benchmarks/scale.py --stages split --against CHECKOUT

A graph of ``E`` edges has ``E / 20`` users and ``E / 200`` items, drawn by SyntheticInteractions,
and one user with half of the catalogue and one item with half of the users besides. Sizes are a
quarter each of the next one, and every stage and size is a process of its own, so that its peak
memory is its own. Exponents are of CPU seconds against edges, by least squares of the logarithms.

With ``--catalogue``, graphs of all sizes have the same users and items, and an exponent is that
of edges alone. Without it tables grow too, and leave the caches.

Batches hold 8,192 interactions, those of SoftLabel 256 users. The lists that students learn from
are drawn at random: a step takes as long as with a teacher's. Of an epoch, the first ``--batches``
are run; what it does before and after its batches is measured, and the batches that are left are
taken to cost what those did after the first tenth.

With ``--against``, the stages are run with the package of another checkout too, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import RESULTS, table, write

import pyg_kd as kd
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.datasets.graph import interaction_graph
from pyg_kd.graph import interactions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.loader import InteractionLoader
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.training import run as training_run
from pyg_kd.transforms import UserSplit

BATCH, DIM, TEACHER_DIM, LISTED = 8_192, 20, 64, 100
#: Users that are ranked for, whatever the size.
RANKED = 100_000


def graph_of(args: argparse.Namespace, cache: str | None = None) -> Any:
    """The graph, with its two hubs; kept in the folder ``cache``, if there is one."""
    num_users, num_items = args.users or args.edges // 20, args.items or args.edges // 200
    path = Path(cache or "") / f"{num_users}-{num_items}-{args.edges}.npy"
    if cache is not None and path.exists():
        user, item = torch.from_numpy(np.load(path)).long()
        return interaction_graph(user, item, num_users, num_items)
    data = SyntheticInteractions(
        num_users=num_users, num_items=num_items, num_edges=args.edges, seed=0
    )[0]
    edges = data["user", "interacts", "item"].edge_index
    items, users = torch.arange(0, num_items, 2), torch.arange(0, num_users, 2)
    user = torch.cat([edges[0], torch.zeros_like(items), users])
    item = torch.cat([edges[1], items, torch.zeros_like(users)])
    data = interaction_graph(user, item, num_users, num_items)
    if cache is not None:
        np.save(path, data["user", "interacts", "item"].edge_index.int().numpy())
    return data


def listed(data: Any) -> Any:
    """The graph with random lists, as a teacher of another kind would leave them."""
    # Here, as older checkouts lack it.
    from pyg_kd.knowledge.requirements import graph_fingerprint, name_source

    sizes = data["user"].num_nodes, data["item"].num_nodes
    name_source(data, graph_fingerprint(data), "0" * 64)
    data.teacher_inner_product = False
    start = torch.randint(sizes[1], (sizes[0], 1), dtype=torch.int32)
    stride = sizes[1] // LISTED  # distinct items
    data["user"].teacher_items = (start + torch.arange(LISTED, dtype=torch.int32) * stride) % (
        sizes[1]
    )
    return data


class Head(InteractionLoader):
    """The first batches of an epoch, and the processor time at which each was asked for."""

    most: int | None = None
    asked: list[float] = []

    def __iter__(self) -> Iterator[Any]:
        for place, batch in enumerate(super().__iter__()):
            if place == len(self):
                return
            Head.asked.append(time.process_time())
            yield batch

    def __len__(self) -> int:
        return min(self.whole, Head.most or self.whole)

    @property
    def whole(self) -> int:
        """The batches of an epoch."""
        return super().__len__()


def fit(
    data: Any, distillations: list[Any], batches: int | None = None, **options: Any
) -> dict[str, float]:
    """An epoch, of which so many batches are run, and what ``fit`` does before it."""
    torch.manual_seed(0)
    training_run.InteractionLoader, Head.most = Head, batches  # type: ignore[misc]
    spent: list[float] = []
    Head.asked = []
    train_epoch = training_run.Run.train_epoch

    def timed_epoch(self: Any, progress: Any) -> dict[str, float]:
        spent.append(time.process_time())
        row: dict[str, float] = train_epoch(self, progress)
        spent.append(time.process_time())
        return row

    training_run.Run.train_epoch = timed_epoch  # type: ignore[method-assign]
    options = {"max_epochs": 1, "batch_size": BATCH, "progress": False, **options}
    start = time.process_time()
    Trainer(**options).fit(MF(data, DIM, init_std=0.1), data, distillations=distillations)
    asked, first = Head.asked, len(Head.asked) // 10
    each = (asked[-1] - asked[first]) / max(len(asked) - 1 - first, 1)
    whole = Head(data, options["batch_size"], by=options.get("batch_by", "interaction")).whole
    epoch = spent[1] - spent[0]
    return {
        "CPU seconds": epoch + each * (whole - len(asked)),
        "bind": spent[0] - start,
        "ms a batch": 1e3 * each,
        "before the first batch": asked[0] - spent[0],
        "batches run": len(asked),
        "batches": whole,
    }


def timed(function: Callable[[], Any]) -> dict[str, float]:
    start = time.process_time()
    function()
    return {"CPU seconds": time.process_time() - start}


def soft_labels(data: Any, batches: int) -> dict[str, float]:
    share = min(1.0, 8_400 / data["item"].num_nodes)
    method = kd.SoftLabel(num_listed=LISTED, share=share)
    options: dict[str, Any] = {"batch_by": "user", "batch_size": 256, "base_weight": 0.0}
    return fit(listed(data), [(method, 1.0)], batches, **options)


def ranked(data: Any) -> torch.Tensor:
    return torch.randperm(data["user"].num_nodes)[:RANKED].sort().values


def evaluation(data: Any) -> dict[str, float]:
    train, _, test = UserSplit(seed=0)(data)
    store = test["user", "interacts", "item"]
    few = torch.isin(store.edge_label_index[0], ranked(data))
    store.edge_label_index = store.edge_label_index[:, few]
    store.pop("edge_label_time", None)
    return timed(lambda: kd.evaluate(MF(train, DIM), train, test, k=50))


STAGES: dict[str, Callable[[Any, int], dict[str, float]]] = {
    "split": lambda data, _: timed(lambda: UserSplit(seed=0)(data)),
    "edges sorted by user and item": lambda data, _: timed(
        lambda: (interactions(data).by_user(), interactions(data).by_item())
    ),
    "epoch": lambda data, batches: fit(data, [], batches),
    "epoch, all rows": lambda data, batches: fit(data, [], batches, sparse=False),
    "epoch of SoftLabel": soft_labels,
    "epoch of RRD": lambda data, batches: fit(
        listed(data), [(kd.RelaxedRankingDistillation(num_uninteresting=40), 1e-3)], batches
    ),
    "extraction": lambda data, _: timed(
        lambda: extract_knowledge(
            MF(data, TEACHER_DIM), data, num_items=LISTED, users=ranked(data), progress=False
        )
    ),
    "evaluation": lambda data, _: evaluation(data),
}


def one(args: argparse.Namespace) -> dict[str, float]:
    """A stage, in this process; ``"data"`` is what comes before all others."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    start = time.process_time()
    data = graph_of(args, None if args.only == "data" else args.cache)
    row = {"CPU seconds": time.process_time() - start}
    if args.only != "data":
        row = STAGES[args.only](data, args.batches)
    row["peak GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    row |= {"edges": data["user", "interacts", "item"].num_edges, "users": data["user"].num_nodes}
    return row | {"items": data["item"].num_nodes}


def run(
    stage: str, edges: int, args: argparse.Namespace, users: int = 0, checkout: str | None = None
) -> dict[str, float] | None:
    """A stage in a process of its own; nothing if it takes too long."""
    options = {"only": stage, "edges": edges, "threads": args.threads, "batches": args.batches}
    users, items = (users, 0) if users else args.catalogue or (0, 0)
    options |= {name: size for name, size in (("users", users), ("items", items)) if size}
    options |= {"cache": args.cache} if args.cache else {}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [*args.prefix.split(), sys.executable, __file__, *words]
    env = os.environ | ({"PYTHONPATH": checkout} if checkout else {})
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, timeout=60 * args.minutes,
            env=env,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"{stage}, {edges:,} edges: more than {args.minutes} minutes", flush=True)
        return None
    row: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    print(checkout or "", stage, {k: round(v, 2) for k, v in row.items()}, flush=True)
    return row


def exponent(rows: list[dict[str, float]]) -> float | None:
    """Of CPU seconds against edges."""
    if len(rows) < 2:
        return None
    x, y = (np.log([row[name] for row in rows]) for name in ("edges", "CPU seconds"))
    return float(np.polyfit(x, y, 1)[0])


def keep(found: dict[str, Any], args: argparse.Namespace) -> None:
    """Write what is found so far, beside what was there."""
    path = RESULTS / "scale.json"
    before = json.loads(path.read_text()) if args.keep and path.exists() else {}
    merged = {name: {**before.get(name, {}), **found.get(name, {})} for name in KINDS}
    write("scale", {"batch": BATCH, "ranked users": RANKED, "listed": LISTED, **merged})


#: Parts of the results: stages by size, those where only edges grow, those at equal edges by users,
#: and those beside another commit.
KINDS = ("stages", "fixed", "users", "against")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edges", type=int, default=40_000_000, help="of the largest graph")
    parser.add_argument("--users", type=int, nargs="+", help="instead of a twentieth of the edges")
    parser.add_argument("--items", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--catalogue", type=int, nargs=2, help="users and items of every size")
    parser.add_argument("--grow", type=int, default=3, help="how many sizes")
    parser.add_argument("--stages", nargs="+", choices=["data", *STAGES])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, default=400, help="of an epoch")
    parser.add_argument("--minutes", type=float, default=30.0, help="for a stage")
    parser.add_argument("--cache", help="a folder that keeps the graphs")
    parser.add_argument("--keep", action="store_true", help="keep other stages of the results")
    parser.add_argument("--against", help="another checkout of this repository")
    parser.add_argument("--prefix", default="", help="a command that runs each stage")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        args.users = args.users[0] if args.users else None
        print(json.dumps(one(args)))
        return
    torch.set_num_threads(args.threads)
    sizes = [args.edges // 4**step for step in reversed(range(args.grow))]
    found: dict[str, Any] = {name: {} for name in KINDS}
    for stage in args.stages or ["data", *(name for name in STAGES if "all rows" not in name)]:
        if args.users:
            rows = [run(stage, args.edges, args, users) for users in args.users]
            found["users"][stage] = [row for row in rows if row is not None]
        elif args.against:
            both = {name: run(stage, args.edges, args, checkout=checkout)
                    for name, checkout in (("before", args.against), ("now", None))}  # fmt: skip
            found["against"][stage] = both
        else:
            rows = [row for size in sizes if (row := run(stage, size, args)) is not None]
            grown = {"rows": rows, "exponent": exponent(rows)}
            found["fixed" if args.catalogue else "stages"][stage] = grown
        keep(found, args)
    lines = [
        [name, *(f"{row['CPU seconds']:.1f}" for row in of["rows"]), of["exponent"] or "-",
         max((row["peak GB"] for row in of["rows"]), default=float("nan"))]
        for name, of in (found["stages"] or found["fixed"]).items()
    ]  # fmt: skip
    table(["stage", *(f"{size:,}" for size in sizes), "exponent", "peak GB"], lines)


if __name__ == "__main__":
    main()
