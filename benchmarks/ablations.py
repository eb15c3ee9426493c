"""Ablations of DE-RRD, HetComp and the recipe of compress, on MovieLens-100K.

    python benchmarks/ablations.py [--root DIR] [--out DIR] [--minutes M] [--only NAME ...]

Runs ``configs/ablation_NAME.yaml`` as studies, each row in a process of its own with one thread,
and writes ``results/ablations.json`` from those that are complete. A stopped run goes on where it
was. Every row is also rerun by ``pyg-kd study configs/ablation_NAME.yaml --run KEY``, with a key
out of the folder of the study.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from report import RESULTS, write

from pyg_kd.study import Results
from pyg_kd.study.ablation import ablation_of, ablation_to_json
from pyg_kd.study.conducting import run_study
from pyg_kd.study.config import read_config

NAMES = ("de_rrd", "het_comp", "compress")
CONFIGS = Path(__file__).parent / "configs"


def config_of(name: str) -> Path:
    """The configuration of an ablation."""
    return CONFIGS / f"ablation_{name}.yaml"


def told(name: str, results: Results) -> dict[str, Any]:
    """What is kept of an ablation."""
    config = read_config(config_of(name))
    runs = results.finalists()
    return {
        "title": config.title,
        "note": config.note,
        "base": (config.ablation or {}).get("base_name") or config.baseline,
        "metrics": {m: ablation_to_json(ablation_of(results, metric=m)) for m in results.metrics},
        "alone": alone(config.baseline, results),
        "runs": len(results),
        "cpu seconds": round(sum(record.cpu_seconds for record in results), 1),
        "seeds": sorted({record.seed for record in runs if record.role == "student"}),
    }


def alone(baseline: str, results: Results) -> dict[str, float]:
    """Means of the student alone over its seeds."""
    runs = [record.test or {} for record in results.finalists() if record.method == baseline]
    return {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of MovieLens-100K; it is downloaded by default")
    parser.add_argument("--out", default="out", help="where the studies are kept")
    parser.add_argument("--minutes", type=float, help="start no run after so many")
    parser.add_argument("--only", nargs="*", default=NAMES, choices=NAMES)
    args = parser.parse_args()
    path = RESULTS / "ablations.json"
    found = json.loads(path.read_text())["ablations"] if path.exists() else {}
    until = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    for name in args.only:
        left = None if until is None else max((until - time.monotonic()) / 60, 0.01)
        results = run_study(
            config_of(name),
            Path(args.out) / f"ablation_{name}",
            minutes=left,
            roots=None if args.root is None else {"movielens": args.root},
        )
        if results.about["missing"]:
            print(f"{name}: {results.about['missing']} runs are missing", flush=True)
            continue
        found[name] = told(name, results)
    if found:
        write("ablations", {"ablations": {n: found[n] for n in NAMES if n in found}})


if __name__ == "__main__":
    main()
