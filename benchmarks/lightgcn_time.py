"""How accurate a LightGCN of the package's recipe is on Gowalla, by its width and its epochs.

    python benchmarks/lightgcn_time.py --root DIR --threads 2
    python benchmarks/lightgcn_time.py --root DIR --threads 2 --epochs 12 24 --dims 64 128
    python benchmarks/lightgcn_time.py --root DIR --refit --dims 128

Each row is trained anew, since the learning rate falls to its end within the given epochs. Seconds
pass from the graph to the trained model, its start by singular vectors included; ranking is not in
them. Test targets are read once for every row, and nothing is chosen by them: widths and epochs are
told about on validation targets too. ``--refit`` trains on training and validation edges together,
as published figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from compress import graphs
from report import RESULTS, table, write
from teachers import SHOWN, with_validation

from pyg_kd import evaluate
from pyg_kd.training.recipes import lightgcn_teacher

COLUMNS = ("dim", "epochs", "threads", "refit", "seconds", "CPU seconds", "val", *SHOWN)


def measured(split: list[Any], dim: int, epochs: int, *, refit: bool) -> dict[str, Any]:
    """The row of a width and a number of epochs."""
    train, val, test = split
    if refit:
        train = with_validation(train, test)
    wall, cpu = time.perf_counter(), time.process_time()
    model, trainer = lightgcn_teacher(train, dim=dim, max_epochs=epochs, progress=False)
    trainer.fit(model, train)
    spent = {"seconds": time.perf_counter() - wall, "CPU seconds": time.process_time() - cpu}
    found = dict(evaluate(model, train, test, k=(20, 50), metrics=("recall", "ndcg")))
    if not refit:
        found["val"] = evaluate(model, train, val, k=20, metrics=("recall",))["recall@20"]
    kept = {name: float(found[name]) for name in ("val", *SHOWN) if name in found}
    threads = torch.get_num_threads()
    return {"dim": dim, "epochs": epochs, "threads": threads, "refit": refit, **spent, **kept}


def merged(kept: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows in order, the new one in place of an older one of the same settings."""
    settings = ("refit", "dim", "epochs", "threads")
    rows = {tuple(old[name] for name in settings): old for old in [*kept, row]}
    return [rows[key] for key in sorted(rows)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data"))
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 12, 24])
    parser.add_argument("--dims", type=int, nargs="+", default=[64])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--refit", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = RESULTS / "lightgcn_time.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    split = graphs("gowalla", str(Path(args.root) / "gowalla"))
    for dim in args.dims:
        for epochs in args.epochs:
            rows = merged(rows, measured(split, dim, epochs, refit=args.refit))
            write("lightgcn_time", {"rows": rows})
    table([*COLUMNS], [[row.get(name, "-") for name in COLUMNS] for row in rows])


if __name__ == "__main__":
    main()
