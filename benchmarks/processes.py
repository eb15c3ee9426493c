"""What several processes cost and give: processor seconds of each, and differences from one.

Work: processor seconds of an epoch, of one process and of each of two. Wall time says nothing where
processes share cores with others; beyond half of the work of one is what two do not share.
Differences: those of weights and of columns of the history after the fits of
``tests/training/fits_on_processes.py`` (every exported method, model and loss in float64).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from report import RESULTS, machine, table, write

from pyg_kd import (
    DistillationExperts,
    ItemSideRankingRegularization,
    RelaxedRankingDistillation,
    SoftLabel,
    TopologyDistillation,
)
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import Trainer

ROOT = Path(__file__).parent.parent
SIZES = {"num_users": 2000, "num_items": 3000, "num_edges": 60_000}
TEACHER_DIM, DIM, BATCH, EPOCHS = 100, 20, 8192, 3

ROWS: dict[str, Any] = {
    "student alone": None,
    "RRD": lambda: RelaxedRankingDistillation(),
    "IR": lambda: ItemSideRankingRegularization(),
    "soft labels": lambda: SoftLabel(),
    "FTD": lambda: TopologyDistillation("full"),
    "HTD": lambda: TopologyDistillation(temperature=0.1),
    "DE": lambda: DistillationExperts(temperature=0.1),
    "LightGCN alone": None,
}


def seconds() -> float:
    """Processor seconds of this process so far, on all of its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def work(folder: Path, devices: int) -> None:
    """Write the processor seconds of the fastest epoch after the first, of every row."""
    torch.set_num_threads(1)
    rank = int(os.environ.get("LOCAL_RANK", 0))
    torch.manual_seed(0)
    data = SyntheticInteractions(None, **SIZES)[0]
    teacher = MF(data, TEACHER_DIM, init_std=1.0)
    graph, found = extract_knowledge(teacher, data, num_items=100, num_users=100), {}
    for name, make in ROWS.items():
        at: list[float] = []
        model = LightGCN(data, DIM) if name.startswith("LightGCN") else MF(data, DIM)
        trainer = Trainer(
            max_epochs=EPOCHS, batch_size=BATCH, accelerator="cpu", devices=devices,
            strategy="ddp" if devices > 1 else "auto", progress=False,
        )  # fmt: skip
        trainer.fit(
            model,
            graph,
            distillations=[] if make is None else [(make(), 1e-3)],
            callbacks=[lambda *_, at=at: at.append(seconds())],
        )
        found[name] = min(b - a for a, b in pairwise(at))
    (folder / f"work-{devices}-{rank}.json").write_text(json.dumps(found))


def fit_all(folder: Path) -> None:
    """The fits of the tests, on one process and on two."""
    script = ROOT / "tests" / "training" / "fits_on_processes.py"
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for devices in ("1", "2"):
        subprocess.run([sys.executable, str(script), str(folder), devices], env=env, check=True)


def differences(folder: Path) -> dict[str, dict[str, float]]:
    """The largest difference of weights, and relative one of columns, of every fit."""
    one, two = (torch.load(folder / f"{devices}-0.pt", weights_only=True) for devices in (1, 2))
    found = {}
    for name in [name for name in one if name not in ("written", "gradients", "taken over")]:
        a, b = one[name], two[name]
        weights = [
            float((a["state"][k].double() - b["state"][k].double()).abs().max()) for k in a["state"]
        ]
        pairs = zip(a["rows"], b["rows"], strict=True)
        columns = [abs(x[k] - y[k]) / max(abs(x[k]), 1e-12) for x, y in pairs for k in x]
        found[name] = {"weights": max(weights), "columns": max(columns)}
    return found


def work_all(folder: Path) -> None:
    """The epochs of :func:`work`, on one process and on two."""
    for devices in ("1", "2"):
        call = [sys.executable, __file__, "--work", str(folder), devices]
        subprocess.run(call, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)


def worked(folder: Path) -> dict[str, dict[str, float]]:
    """Processor seconds of an epoch, of every row."""
    places = {"one": "1-0", "first of two": "2-0", "second of two": "2-1"}
    found = {k: json.loads((folder / f"work-{p}.json").read_text()) for k, p in places.items()}
    return {row: {place: found[place][row] for place in places} for row in ROWS}


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", nargs=2, help="a folder and a number of processes: measure there")
    parser.add_argument("--only", choices=["rows", "same"], help="keep the other figures")
    parser.add_argument("--folder", help="what was measured before, by the parts of this script")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    args = parser.parse_args()
    if args.work:
        work(Path(args.work[0]), int(args.work[1]))
        return
    torch.set_num_threads(1)
    known = RESULTS / "processes.json"
    found = json.loads(known.read_text()) if known.exists() else {}
    with TemporaryDirectory() as name:
        folder = Path(args.folder or name)
        if args.only != "same":
            if not args.folder:
                work_all(folder)
            sizes = {**SIZES, "teacher": TEACHER_DIM, "dim": DIM, "batch": BATCH}
            found |= {"machine": machine(), "sizes": sizes, "rows": worked(folder)}
        if args.only != "rows":
            if not args.folder:
                fit_all(folder)
            found["same"] = differences(folder)
    for part, shown in (("rows", "{:.2f}"), ("same", "{:.0e}")):
        if part in found:
            head = ["", *next(iter(found[part].values()))]
            cells = [[n, *map(shown.format, row.values())] for n, row in found[part].items()]
            table(head, cells)
    if not args.dry:
        write("processes", found)


if __name__ == "__main__":
    main()
