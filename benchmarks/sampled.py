"""LightGCN on sampled neighbours: an epoch of a large graph, and accuracy on Gowalla.

    python benchmarks/sampled.py large               # an epoch of the Trainer on neighbours
    python benchmarks/sampled.py large --steps 20    # steps, and a step on the whole graph
    python benchmarks/sampled.py memory --smaller 4  # layers in memory, in blocks and in files
    python benchmarks/sampled.py gowalla --data FOLDER --seeds 0 1 --epochs 10

``large`` is a graph of SyntheticInteractions with 1,000,000 users, 100,000 items and 20,000,000
edges, and LightGCN of two layers and width 64 under BPR, in batches of 65,536: a whole epoch of the
Trainer or, with ``--steps``, so many steps on neighbours and one on the whole graph, of the same
batches and in one process, multiplied by the steps of an epoch. ``memory`` propagates over the same
graph, or with ``--smaller`` over a part of it. ``gowalla`` trains LightGCN of width 20 by BPR in
batches of 8,192 for a few epochs, with the same seeds on the whole graph and on neighbours, and
ranks the validation targets at the end.

Every run is a process of its own; seconds are of the CPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from report import RESULTS, table, write
from torch_geometric.data import HeteroData

from pyg_kd.datasets import Gowalla, SyntheticInteractions
from pyg_kd.functional import normalized_adjacency, propagate
from pyg_kd.loader import InteractionLoader
from pyg_kd.models import LightGCN
from pyg_kd.training import BPR, Trainer
from pyg_kd.training.sampled import SampledNeighbors
from pyg_kd.transforms import UserSplit

DIM, NARROW, LAYERS = 64, 20, 2
USERS, ITEMS, EDGES = 1_000_000, 100_000, 20_000_000
BATCH = {"large": 65_536, "gowalla": 8_192}
FAN_OUTS = {"large": ["10,5"], "gowalla": ["whole", "10,5"]}
BLOCKS = ("whole", "blocks", "files")


def cpu() -> float:
    return time.process_time()


def peak() -> float:
    """Gigabytes that the process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def fan_outs(text: str) -> list[int] | None:
    return None if text == "whole" else [int(n) for n in text.split(",")]


def large_graph(args: argparse.Namespace) -> HeteroData:
    sizes = {"num_users": USERS, "num_items": ITEMS, "num_edges": EDGES}
    return SyntheticInteractions(
        **{name: size // args.smaller for name, size in sizes.items()}, seed=0
    )[0]


def an_epoch(args: argparse.Namespace) -> dict[str, Any]:
    """An epoch of the Trainer, and where the CPU seconds of ``fit`` went."""
    start = cpu()
    data = large_graph(args)
    made = cpu()
    torch.manual_seed(0)
    trainer = Trainer(
        max_epochs=1, batch_size=BATCH["large"] // args.smaller, loss="bpr",
        num_neighbors=fan_outs(args.neighbors),
    )  # fmt: skip
    spent: dict[str, float] = {}
    with epochs_timed(spent):
        history = trainer.fit(LightGCN(data, DIM, LAYERS), data)
    return {
        "graph": made - start, "minutes of an epoch": spent["epoch"] / 60,
        "around it": cpu() - made - spent["epoch"], "loss": history["loss"][0], "peak GB": peak(),
    }  # fmt: skip


@contextmanager
def epochs_timed(spent: dict[str, float]) -> Iterator[None]:
    """CPU seconds of the epochs inside, without what comes before, between and after them."""
    from pyg_kd.training.run import Run

    original = Run.train_epoch

    def timed(run: Run, progress: Any) -> dict[str, float]:
        start = cpu()
        row = original(run, progress)
        spent["epoch"] = spent.get("epoch", 0.0) + cpu() - start
        return row

    Run.train_epoch = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Run.train_epoch = original  # type: ignore[method-assign]


def some_steps(args: argparse.Namespace) -> dict[str, Any]:
    """Steps on neighbours and on the whole graph, of the same batches; the first ones warm up."""
    data = large_graph(args)
    torch.manual_seed(0)
    model, loss = LightGCN(data, DIM, LAYERS), BPR()
    sampled = SampledNeighbors(model, data, fan_outs(args.neighbors) or [])
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loader = InteractionLoader(data, BATCH["large"] // args.smaller)
    batches = list(islice(loader, args.steps + 1))
    found: dict[str, Any] = {"steps of an epoch": len(loader), "measured": args.steps}
    for name, of, represent in (
        ("neighbours", batches, lambda batch: sampled.represent([loss], data, batch)),
        ("whole graph", batches[:2], lambda _: model(data)),
    ):
        spent = []
        for batch in of:
            start = cpu()
            optimizer.zero_grad(set_to_none=True)
            loss(represent(batch), batch).backward()
            optimizer.step()
            spent.append(cpu() - start)
        found[name] = {
            "step": sum(spent[1:]) / len(spent[1:]), "peak GB": peak(),
            "minutes of an epoch": sum(spent[1:]) / len(spent[1:]) * len(loader) / 60,
        }  # fmt: skip
        print(name, found[name], file=sys.stderr, flush=True)
    return found


@contextmanager
def watched(held: list[float]) -> Iterator[None]:
    """Gigabytes of its own, not of files, that the process holds inside, at most."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            lines = Path("/proc/self/status").read_text().splitlines()
            own = next(line for line in lines if line.startswith("RssAnon"))
            held.append(int(own.split()[1]) / 1e6)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def a_propagation(args: argparse.Namespace) -> dict[str, Any]:
    """Forward and backward; the memory is what comes on top of the graph and the embeddings."""
    data = large_graph(args)
    adjacency = normalized_adjacency(data)
    torch.manual_seed(0)
    x = [torch.randn(data[kind].num_nodes, DIM, requires_grad=True) for kind in ("user", "item")]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        options: dict[str, Any] = {} if args.layers == "whole" else {"block_rows": 50_000}
        if args.layers == "files":
            options["folder"] = folder
        held: list[float] = []
        with watched(held):
            time.sleep(0.1)
            start = cpu()
            out = propagate(*x, adjacency, LAYERS, **options)
            gradients = torch.autograd.grad(out, x, [y.detach() for y in out])
            seconds = cpu() - start
    check = float(sum(g.double().sum() for g in gradients))
    layer = sum(t.numel() for t in x) * 4 / 1e9
    return {
        "edges": adjacency.user.col.numel(), "seconds": seconds, "GB": max(held) - held[0],
        "layer GB": layer, "check": check,
    }  # fmt: skip


def on_gowalla(args: argparse.Namespace) -> dict[str, Any]:
    """The validation value after the last epoch."""
    train, val, _ = UserSplit(val=0.1, test=0.0, seed=0)(Gowalla(Path(args.data) / "gowalla")[0])
    torch.manual_seed(args.seed)
    trainer = Trainer(
        max_epochs=args.epochs, batch_size=BATCH["gowalla"], loss="bpr", seed=args.seed,
        num_neighbors=fan_outs(args.neighbors), evaluate_every=args.epochs,
    )  # fmt: skip
    spent: dict[str, float] = {}
    with epochs_timed(spent):
        history = trainer.fit(LightGCN(train, NARROW, LAYERS), train, val_data=val)
    return {
        "epochs": args.epochs, "recall@20": history["recall@20"][-1], "loss": history["loss"][-1],
        "CPU seconds of an epoch": spent["epoch"] / args.epochs, "peak GB": peak(),
    }  # fmt: skip


ONE = {"epoch": an_epoch, "steps": some_steps, "propagation": a_propagation, "gowalla": on_gowalla}


def run(stage: str, args: argparse.Namespace, **options: Any) -> dict[str, Any]:
    """A measurement in a process of its own."""
    given = {"threads": args.threads, "smaller": args.smaller, "epochs": args.epochs, **options}
    words = [w for name, value in given.items() for w in (f"--{name}", str(value))]
    for name in ("data", "folder", "steps"):
        if getattr(args, name) is not None:
            words += [f"--{name}", str(getattr(args, name))]
    command = [sys.executable, __file__, args.part, "--one", stage, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(stage, options, row, flush=True)
    return row


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """What a part of the benchmark measures, by what was done."""
    if args.part == "large":
        stage, name = ("epoch", "whole epoch") if args.steps is None else ("steps", "steps")
        return {f"{f}, {name}": run(stage, args, neighbors=f) for f in FAN_OUTS["large"]}
    if args.part == "memory":
        return {layers: run("propagation", args, layers=layers) for layers in BLOCKS}
    found = {}
    for neighbors in args.neighbors or FAN_OUTS["gowalla"]:
        for seed in args.seeds:
            found[f"{neighbors}, seed {seed}, {args.epochs} epochs"] = run(
                "gowalla", args, neighbors=neighbors, seed=seed
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["large", "memory", "gowalla"])
    parser.add_argument("--data", help="the folder with Gowalla")
    parser.add_argument("--folder", help="where files of layers are")
    parser.add_argument("--epochs", type=int, default=3, help="of Gowalla")
    parser.add_argument("--steps", type=int, help="of the large graph; by default a whole epoch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smaller", type=int, default=1, help="divides all sizes, for a trial")
    parser.add_argument("--neighbors", help="of Gowalla: fan-outs like 10,5, or 'whole'")
    parser.add_argument("--layers", default="whole", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=list(ONE), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(ONE[args.one](args)))
        return
    if args.neighbors:
        args.neighbors = args.neighbors.split()
    found = measured(args)
    names = list(next(iter(found.values())))
    table(
        ["", *names], [[key, *(str(row.get(n, "-")) for n in names)] for key, row in found.items()]
    )
    # Parts are measured one by one, on a machine that others use too.
    path = RESULTS / "sampled.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    kept = {part: before[part] for part in ("large", "memory", "gowalla") if part in before}
    merged = found if args.part == "memory" else {**kept.get(args.part, {}), **found}
    write("sampled", {**kept, args.part: merged})


if __name__ == "__main__":
    main()
