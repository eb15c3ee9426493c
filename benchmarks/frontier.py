"""Accuracy against bytes: students beside other factorisations, at four precisions and compressed.

    python benchmarks/frontier.py citeulike --root DIR --cache FOLDER --seeds 5
    python benchmarks/frontier.py gowalla --root DIR --cache FOLDER
    python benchmarks/frontier.py movielens-100k --root DIR --cache FOLDER --seeds 5

Splits are those of ``compress.py``. Students of several widths are distilled by ``compress``;
rivals are alternating least squares, BPR, LightGCN by sampled softmax, truncated eigenvectors of
closed-form filters, all in float32, int8 and int4, and product quantisation of the widest ALS and
of the widest student. Bytes are of all that is served, divided by users and items together: tables,
their scales, and codebooks, which are stored in float16. Settings are chosen on validation targets
at the first seed; test targets are read once. Finalists, also chosen on validation targets, are
trained with all seeds: p is of the paired test over users, of means over seeds, against the rival
that is best within 80 bytes.

What is trained is kept in the cache, so that a run that was interrupted goes on. ``--only`` trains
one family and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from frontier_models import IN_INT4, NEAREST, Family, World, families
from report import RESULTS, table, write

from pyg_kd import evaluate
from pyg_kd.evaluation import compare
from pyg_kd.graph import interactions
from pyg_kd.models import Recommender
from pyg_kd.retrieval import Table, tables_at
from pyg_kd.retrieval.seen import Seen
from pyg_kd.training import validate

SHOWN = ("recall@20", "recall@50", "ndcg@20")
LEAST, MOST = 8, 810

#: Parts of a vector by its width, bits of a code, and whether rows are scaled to length 1 first.
PARTS = {200: (10, 20, 40, 100), 64: (8, 16, 32)}
CODES = [(bits, norm) for bits in (4, 8) for norm in (0, 1)]

#: Below so many rows, codebooks of 8 bits may take more than what they save.
FEW_ROWS = 10_000

#: Bytes a row that finalists may take, and the width of those that are finalists anyway.
ROOM, WIDTH = 80.5, 20


class Point(NamedTuple):
    """Tables as they are served."""

    family: str
    dim: int
    how: str
    size: float  # bytes a row
    model: Recommender


class Tables(NamedTuple):
    """Vectors of users and items, the setting, validation metric and seconds of their training."""

    x: tuple[np.ndarray, np.ndarray]
    setting: dict[str, Any]
    value: float
    seconds: float


def fitted(world: World, name: str, family: Family, dim: int, seed: int, number: int) -> Tables:
    """Tables of a setting, by its number, from the cache if they are there."""
    path = world.kept(f"{name}-{dim}-{seed}-{number}.npz")
    setting = family.settings[number]
    if not path.exists():
        start = time.process_time()
        model = family.fit(world, dim, seed, setting)
        seconds = time.process_time() - start
        with torch.no_grad():
            x = [value.numpy() for _, value in sorted(model(world.train).items(), reverse=True)]
        value = validate(model, world.train, world.val, world.metric)[world.metric]
        print(f"{path.stem}: {value:.4f}, {seconds:.0f} s, {setting}", flush=True)
        np.savez(path, user=x[0], item=x[1], value=value, seconds=seconds)
    found = np.load(path)
    x = (found["user"], found["item"])
    return Tables(x, setting, float(found["value"]), float(found["seconds"]))


def best_setting(world: World, name: str, family: Family, dim: int) -> int:
    """The number of the setting that is best on validation targets at the first seed."""
    near = min(family.tuned or (dim,), key=lambda other: abs(np.log(other / dim)))
    values = [
        fitted(world, name, family, near, 0, number).value for number in range(len(family.settings))
    ]
    return int(np.argmax(values))


def chosen(world: World, name: str, family: Family, dim: int, seed: int = 0) -> Tables:
    """Tables of a width by the best setting."""
    return fitted(world, name, family, dim, seed, best_setting(world, name, family, dim))


def seen_of(world: World) -> Seen:
    """What users have seen."""
    seen = interactions(world.train).by_user()
    return Seen(seen.ptr.numpy(), seen.col.numpy(), world.sizes[1])


def served(world: World, x: tuple[Any, Any], name: str, dim: int, how: str) -> Point:
    """Tables at a precision, or in codes."""
    if how.startswith("PQ"):
        parts, bits, norm = map(int, how.split()[1].split("x"))
        coded = [product_codes(rows, parts, bits, bool(norm)) for rows in x]
        wide, sizes = zip(*coded, strict=True)
    else:
        nearest = how == NEAREST
        tables = (
            [Table.of(rows, "int4") for rows in x]
            if nearest
            else tables_at(*x, how, seen_of(world))
        )
        wide, sizes = zip(*((t.block(0, len(t)), t.nbytes) for t in tables), strict=True)
    for rows in wide:
        if not np.isfinite(rows).all():
            raise ValueError(f"{name} {dim} {how} is not finite")
    model = Recommender.from_embeddings(world.train, *(rows.copy() for rows in wide))
    return Point(name, dim, how, sum(sizes) / sum(world.sizes), model)


def product_codes(x: np.ndarray, parts: int, bits: int, norm: bool) -> tuple[np.ndarray, int]:
    """Rows by product quantisation, and the bytes of codes, float16 codebooks and lengths."""
    import faiss

    length = np.linalg.norm(x, axis=1, keepdims=True)
    scale = np.where(length > 0, length, 1) if norm else np.ones_like(length)
    rows = np.ascontiguousarray(x / scale, np.float32)
    coder = faiss.ProductQuantizer(x.shape[1], parts, bits)
    coder.cp.seed, coder.cp.min_points_per_centroid = 0, 1
    coder.train(rows)
    centroids = faiss.vector_to_array(coder.centroids).astype(np.float16).astype(np.float32)
    faiss.copy_array_to_vector(centroids, coder.centroids)
    found = coder.decode(coder.compute_codes(rows))
    if norm:
        found = found * scale.astype(np.float16).astype(np.float32)
    found[length[:, 0] == 0] = 0
    size = len(x) * (parts * bits / 8 + 2 * norm) + 2 * centroids.size
    return found.astype(np.float32), int(np.ceil(size))


def kinds(world: World, name: str, family: Family) -> list[tuple[int, str]]:
    """Widths, and how they are stored."""
    found = list(product(family.dims, family.stored))
    if name in ("ALS", "Student") and family.dims[-1] in PARTS:  # the widest
        few = sum(world.sizes) < FEW_ROWS
        found += [
            (family.dims[-1], f"PQ {parts}x{bits}x{norm}")
            for parts, (bits, norm) in product(PARTS[family.dims[-1]], CODES)
            if bits == 8 or few
        ]
    return found


def point(world: World, name: str, family: Family, dim: int, how: str) -> dict[str, Any]:
    """What tables of the first seed reach, from the cache if it is there."""
    path = world.kept(f"{name}-{dim}-{how}.json")
    if not path.exists():
        tables = chosen(world, name, family, dim)
        found = served(world, tables.x, name, dim, how)
        value = validate(found.model, world.train, world.val, world.metric)[world.metric]
        row = {"family": name, "dim": dim, "how": how, "bytes": found.size, "val": value}
        row |= {"setting": tables.setting, "seconds": tables.seconds}
        test = measure(world, found.model).mean
        path.write_text(json.dumps(row | {metric: test[metric] for metric in SHOWN}))
    row = json.loads(path.read_text())
    print({key: value for key, value in row.items() if key != "setting"}, flush=True)
    return row


def measure(world: World, model: Recommender) -> Any:
    """Test metrics of every user."""
    return evaluate(
        model, world.train, world.test, k=(20, 50), metrics=("recall", "ndcg"), per_user=True
    )


def undominated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of product quantisations, those that no smaller one reaches on validation targets."""
    codes = sorted((r for r in rows if r["how"].startswith("PQ")), key=lambda r: r["bytes"])
    best, kept = -1.0, []
    for row in codes:
        if row["val"] > best:
            best, _ = row["val"], kept.append(row)
    return [r for r in rows if not r["how"].startswith("PQ")] + kept


def all_points(world: World, names: list[str]) -> list[dict[str, Any]]:
    """Every point of some families at the first seed, of product quantisations the best ones."""
    rows = []
    for name in names:
        family = families(world.name)[name]
        own = [point(world, name, family, dim, how) for dim, how in kinds(world, name, family)]
        rows += undominated([row for row in own if LEAST <= row["bytes"] <= MOST])
    return rows


def finalists(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best rival within 80 bytes first, then students: of width 20, and the best one."""
    students = [row for row in rows if row["family"] == "Student"]
    others = [row for row in rows if row["family"] not in ("Student", IN_INT4)]
    rivals = [row for row in others if row["bytes"] <= ROOM]
    room = [row for row in students if row["bytes"] <= ROOM]
    found = [max(rivals, key=lambda row: row["val"])]
    found += [row for row in students if row["dim"] == WIDTH]
    best = max(room, key=lambda row: row["val"])
    return found if best in found else [*found, best]


def final_row(world: World, row: dict[str, Any], seeds: int) -> list[Any]:
    """Test metrics of every user for each seed."""
    name, dim = row["family"], row["dim"]
    runs = []
    for seed in range(seeds):
        tables = chosen(world, name, families(world.name)[name], dim, seed)
        runs.append(measure(world, served(world, tables.x, name, dim, row["how"]).model))
    return runs


def compared(world: World, rows: list[dict[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """Finalists with means and deviations over seeds, and tests against the best rival."""
    names = {f"{r['family']}-{r['dim']}, {r['how']}": r for r in finalists(rows)}
    runs = {name: final_row(world, row, seeds) for name, row in names.items()}
    rival, *students = runs
    found = []
    for name, row in names.items():
        entry: dict[str, Any] = {"name": name, "bytes": row["bytes"], "seeds": seeds}
        for metric in SHOWN:
            values = [run.mean[metric] for run in runs[name]]
            entry[metric] = mean(values)
            entry[f"{metric} sd"] = stdev(values) if seeds > 1 else None
        found.append(entry)
    for metric in SHOWN:
        tests = compare(runs[rival], {name: runs[name] for name in students}, metric)
        for entry in found[1:]:
            test = tests[entry["name"]]
            told = {"difference": test.difference, "interval": test.interval, "p": test.adjusted}
            entry.setdefault("against", {"rival": rival})[metric] = told
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=["citeulike", "gowalla", "movielens-100k"])
    parser.add_argument("--root", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--families", choices=[*families("")], nargs="+", default=[*families("")])
    parser.add_argument("--only", choices=[*families("")], nargs="+")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    world = World.of(args.data, args.root, args.cache)
    if args.only:
        for name in args.only:
            for dim in (family := families(world.name)[name]).dims:
                chosen(world, name, family, dim)
        return
    rows = all_points(world, args.families)
    finals = compared(world, rows, args.seeds)
    header = ["family", "dim", "how", "bytes", "val", *SHOWN]
    table(header, [[row[key] for key in header] for row in sorted(rows, key=lambda r: r["bytes"])])
    path = RESULTS / "frontier.json"
    before = json.loads(path.read_text())["data"] if path.exists() else {}
    result = {"metric": world.metric, "points": rows, "finalists": finals}
    write("frontier", {"data": {**before, world.name: result}})


if __name__ == "__main__":
    main()
