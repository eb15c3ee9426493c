"""The protocol of the papers of 2025-26: 8:1:1 for every user, students of width 20.

    python benchmarks/protocol.py citeulike_mf [--root DIR] [--minutes 15]

The name is that of a file in ``benchmarks/configs``, which says what is run: the data, the
backbone of teacher and student, the trainer of either, and every method with its settings. All
rows, the student alone included, have the same number of settings; the one with the best
validation NDCG@10 at the first seed is run with the other seeds. Test targets are read once, for
the runs of the settings that were chosen.

A setting adds to its method, and a method to ``student``: ``weight`` is that of the distillation,
``options`` are the method's own, ``trainer`` and ``model`` the options of those. ``compress: true``
takes over how ``compress`` distils.

Runs are kept under ``--out`` by the digest of their recipe, so a stopped comparison goes on where
it was. The results hold every run and the digest of the split: another split is refused.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from paired import paired
from protocol_data import split
from protocol_runs import TEACHER, Recipe, Runs, key_of, recipe
from report import RESULTS, machine, table, write
from rows import merged

CONFIGS = Path(__file__).parent / "configs"
SHOWN = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
ALONE = "student alone"


class Comparison:
    """All runs of a configuration.

    Args:
        config: The configuration.
        digest: The digest of the split.
        runs: Runs that are kept, and the means to train others.
    """

    def __init__(self, config: dict[str, Any], digest: str, runs: Runs) -> None:
        self.config, self.digest, self.runs = config, digest, runs
        self.seeds: list[int] = config["seeds"]
        self.chosen: dict[str, int] = {}

    def settings(self, row: str) -> list[dict[str, Any]]:
        of = self.config[TEACHER] if row == TEACHER else self.config["methods"][row]
        found: list[dict[str, Any]] = of.get("settings", [{}])
        return found

    def recipe(self, row: str, setting: int, seed: int) -> Recipe:
        """All that a run depends on."""
        found = recipe(self.config, self.digest, row, self.settings(row)[setting], seed)
        if row != TEACHER and found["method"] is not None:
            found["teacher"] = key_of(self.recipe(TEACHER, self.chosen[TEACHER], self.taught(seed)))
        return found

    def taught(self, seed: int) -> int:
        """The seed of the teacher of a student's seed."""
        return self.seeds[0] if self.config[TEACHER].get("one") else seed

    def choose(self, row: str) -> bool:
        """Train a row with all its settings at the first seed; whether it could be done."""
        values = []
        for place in range(len(self.settings(row))):
            trial = self.recipe(row, place, self.seeds[0])
            if not self.runs.trained(trial, f"{row}, setting {place}"):
                return False
            record = self.runs.record(trial)
            assert record is not None
            values.append(record["validation"])
        self.chosen[row] = values.index(max(values))
        return True

    def train(self, rows: list[str], seeds: list[int]) -> None:
        """Choose settings, then train seed by seed, so that rows stay comparable."""
        if not self.choose(TEACHER):
            return
        for row in rows:
            self.choose(row)
        for seed in seeds:
            for row in [TEACHER, *rows]:
                self.ready(row, seed)

    def ready(self, row: str, seed: int) -> bool:
        """Whether the chosen run of a row is there, trained now if there is time."""
        if row not in self.chosen:
            return False
        if row == TEACHER and seed != self.taught(seed):
            return False
        wanted = [self.recipe(row, self.chosen[row], seed)]
        if wanted[0]["teacher"] is not None:
            wanted.insert(0, self.recipe(TEACHER, self.chosen[TEACHER], self.taught(seed)))
        return all(self.runs.trained(one, f"{row}, seed {seed}", vectors=True) for one in wanted)

    def finalists(self) -> dict[str, dict[int, Recipe]]:
        """The chosen runs that are there, by row and seed."""
        self.runs.until = 0.0
        rows = {
            row: {s: self.recipe(row, c, s) for s in self.seeds if self.ready(row, s)}
            for row, c in self.chosen.items()
        }
        return {row: runs for row, runs in rows.items() if runs}

    def summary(self) -> dict[str, dict[str, Any]]:
        """Means, deviations, tests and cost of all rows."""
        finalists = self.finalists()
        values = {
            row: {seed: self.runs.tested(one) for seed, one in runs.items()}
            for row, runs in finalists.items()
        }
        found: dict[str, dict[str, Any]] = {}
        for row, by_seed in values.items():
            records = [self.runs.record(one) or {} for one in finalists[row].values()]
            entry: dict[str, Any] = {
                "seeds": len(by_seed),
                "setting": self.settings(row)[self.chosen[row]],
                "CPU seconds": median(r["CPU seconds"] for r in records),
            }
            for name in SHOWN:
                means = [float(v[name].mean()) for v in by_seed.values()]
                entry[name] = mean(means)
                entry[f"{name} deviation"] = stdev(means) if len(means) > 1 else None
            found[row] = entry
        for baseline in self.config.get("against", [ALONE]):
            self.compare(baseline, values, found)
        return found

    def compare(self, baseline: str, values: Any, found: dict[str, dict[str, Any]]) -> None:
        """Test the methods against a row."""
        others = [row for row in values if row not in (TEACHER, ALONE, baseline)]
        if baseline not in values:
            return
        for name in SHOWN:
            of = {row: {s: v[name] for s, v in values[row].items()} for row in values}
            for row, test in paired(of[baseline], {row: of[row] for row in others}).items():
                found[row].setdefault("against", {}).setdefault(baseline, {})[name] = test

    def every_run(self) -> dict[str, Any]:
        """All runs that are known, by key; the test metrics of those that were tested."""
        found = {}
        for row in [TEACHER, *self.config["methods"]]:
            if row != TEACHER and TEACHER not in self.chosen:
                continue
            for place in range(len(self.settings(row))):
                for seed in self.seeds:
                    one = self.recipe(row, place, seed)
                    record = self.runs.record(one)
                    if record is not None:
                        found[key_of(one)] = {"row": row, "seed": seed, **record}
                        if self.runs.path(one, "test.pt").exists():
                            test = self.runs.tested(one)
                            found[key_of(one)]["test"] = {n: float(test[n].mean()) for n in SHOWN}
        return found


def read_config(name: str) -> dict[str, Any]:
    """A configuration, by its name or its file; every row must have as many settings."""
    path = Path(name) if name.endswith(".json") else CONFIGS / f"{name}.json"
    config: dict[str, Any] = json.loads(path.read_text())
    counts = {row: len(of.get("settings", [{}])) for row, of in config["methods"].items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"'methods' must have equally many settings each (got {counts})")
    return config


def stored_results() -> dict[str, Any]:
    """The results of all configurations."""
    path = RESULTS / "protocol.json"
    found: dict[str, Any] = json.loads(path.read_text())["configs"] if path.exists() else {}
    return found


def check_split(name: str, stored: dict[str, Any], digest: str) -> None:
    """Refuse to mix runs of two splits."""
    before = stored.get("split sha256", digest)
    if before != digest:
        raise ValueError(
            f"the split of {name!r} must be that of the stored results, of digest {before} "
            f"(got {digest}): is it the same data?"
        )


def compare_config(path: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing of a configuration, and tabulate what is there."""
    config, name = read_config(path), Path(path).stem
    stored = stored_results().get(name, {})
    graphs, digest = split(config["data"], args.root)
    check_split(name, stored, digest)
    config["items"] = graphs[0]["item"].num_nodes
    runs = Runs(graphs, args.out, stored.get("runs", {}), args.minutes)
    comparison = Comparison(config, digest, runs)
    comparison.train(args.methods or list(config["methods"]), args.seeds or config["seeds"])
    for row in config["methods"]:  # rows that were not asked for, from what is kept
        if row not in comparison.chosen and TEACHER in comparison.chosen:
            runs.until = 0.0
            comparison.choose(row)
    sizes = {"users": graphs[0]["user"].num_nodes, "items": config["items"]}
    sizes["interactions"] = sum(
        int(g["user", "item"][key].size(1))
        for g, key in zip(graphs, ("edge_index", *["edge_label_index"] * 2), strict=True)
    )
    about = {key: config[key] for key in ("data", "backbone", "metric", "note", "published")}
    rows, stay = merged(stored.get("rows", {}), comparison.summary())
    for row, reason in stay.items():
        print(f"{name}: the stored row '{row}' stays, the new one {reason}", flush=True)
    return {
        **about, "sizes": sizes, "split sha256": digest, "machine": machine(), "rows": rows,
        "settings": len(comparison.settings(next(iter(config["methods"])))),
        "not run": [row for row in config["methods"] if row not in rows],
        "runs": comparison.every_run(),
    }  # fmt: skip


def show(name: str, rows: dict[str, dict[str, Any]]) -> None:
    """The table of a configuration."""
    lines = [
        [
            row,
            str(e["seeds"]),
            *(f"{e[m]:.4f}±{e[f'{m} deviation'] or 0:.4f}" for m in SHOWN),
            f"{e['CPU seconds']:.0f}",
            json.dumps(e["setting"]),
        ]
        for row, e in rows.items()
    ]
    print(f"\n{name}")
    table(["row", "seeds", *SHOWN, "CPU s", "setting"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a name in benchmarks/configs, or a file")
    parser.add_argument("--root", help="folder of the raw files")
    parser.add_argument("--out", type=Path, default=Path("out/protocol"))
    parser.add_argument("--minutes", type=float, default=1e6, help="start no run after them")
    parser.add_argument("--methods", nargs="+", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    name = Path(args.config).stem
    found = compare_config(args.config, args)
    show(name, found["rows"])
    write("protocol", {"configs": {**stored_results(), name: found}})


if __name__ == "__main__":
    main()
