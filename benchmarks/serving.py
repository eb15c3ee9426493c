"""Exact masked top-k search against the libraries that people use for it, as ratios in one run.

    python benchmarks/serving.py                        # everything: many minutes
    python benchmarks/serving.py bulk --sizes citeulike --widths 64 --num-users 1024
    python benchmarks/serving.py single scale growth

``bulk``: microseconds a user for many users at once. ``single``: one user at a time, percentiles of
the milliseconds of a request. ``scale``: the same over a 16-fold range of catalogues, against one
pass over the table. ``growth``: a request while users and edges grow. Tables and seen items are
random, with the sizes of CiteULike and Gowalla. A part of a run replaces only its own rows in
``results/serving.json``. Needs the extras ``bench``, ``faiss`` and ``hnswlib``.

On a machine that is busy with other things, ``--clock cpu --threads 1`` compares the processor time
that each form takes; two threads that wait for each other would be counted as work.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import numpy as np
import scipy.sparse
import torch
from implicit.cpu.topk import topk as implicit_topk
from report import RESULTS, table, write
from threadpoolctl import threadpool_limits
from torch_geometric.data import HeteroData

from pyg_kd.models import MF
from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.backends import make_backend
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.seen import rows_of as part_of
from pyg_kd.retrieval.tables import Table
from pyg_kd.typing import INTERACTS, ITEM, USER

#: Users, items, seen items a user.
SIZES = {"citeulike": (5_220, 25_182, 22), "gowalla": (29_858, 40_981, 27)}

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

K = 50
EXACT = ("torch", "implicit", "faiss flat")
OURS = "pyg_kd"


class Problem(NamedTuple):
    """Tables, and what each user has seen: as a trained student would rank it, near the top."""

    x_user: np.ndarray
    x_item: np.ndarray
    seen: Pattern

    @property
    def name(self) -> str:
        return f"{len(self.x_item)} items, width {self.x_item.shape[1]}"


def problem(num_users: int, num_items: int, degree: int, dim: int, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    x_user = rng.standard_normal((num_users, dim), dtype=np.float32)
    x_item = rng.standard_normal((num_items, dim), dtype=np.float32)
    ptr = np.concatenate([[0], np.cumsum(np.minimum(rng.poisson(degree, num_users), num_items))])
    col = rng.integers(0, num_items, ptr[-1])
    for start in range(0, num_users, 256):  # half of them among the user's best
        best = np.argpartition(-(x_user[start : start + 256] @ x_item.T), degree, axis=1)
        for user, row in enumerate(best[:, : degree // 2], start):
            width = min(len(row), ptr[user + 1] - ptr[user])
            col[ptr[user] : ptr[user] + width] = row[:width]
    return Problem(x_user, x_item, Pattern(ptr, col))


def bare_products(p: Problem) -> dict[str, Callable[[], None]]:
    """The scores alone, in a reused buffer: whole rows, and tiles; the faster one counts."""

    buffers = np.empty((512, len(p.x_item)), np.float32)

    def rows() -> None:
        buffer = buffers
        for start in range(0, len(p.x_user), 512):
            x = p.x_user[start : start + 512]
            np.matmul(x, p.x_item.T, out=buffer[: len(x)])

    def tiles() -> None:
        buffer = torch.empty(4096, 256)
        items = torch.from_numpy(p.x_item)
        for start in range(0, len(p.x_user), 256):
            x = torch.from_numpy(p.x_user[start : start + 256])
            for first in range(0, len(p.x_item), 4096):
                part = items[first : first + 4096]
                torch.mm(part, x.t(), out=buffer[: len(part), : len(x)])

    return {"product (rows)": rows, "product (tiles)": tiles}


def torch_search(p: Problem) -> Callable[[Any, Pattern], np.ndarray]:
    """Product, mask and topk in a reused buffer."""
    items = torch.from_numpy(p.x_item)
    buffer = torch.empty(128, len(p.x_item))

    def search(x: np.ndarray, seen: Pattern) -> np.ndarray:
        lists = []
        for start in range(0, len(x), 128):
            part = torch.from_numpy(x[start : start + 128])
            scores = buffer[: len(part)]
            torch.mm(part, items.t(), out=scores)
            ptr = torch.from_numpy(seen.ptr[start : start + len(part) + 1])
            row = torch.repeat_interleave(torch.arange(len(part)), ptr.diff())
            scores[row, torch.from_numpy(seen.col[ptr[0] : ptr[-1]])] = -torch.inf
            lists.append(scores.topk(K, dim=1).indices)
        return torch.cat(lists).numpy()

    return search


def implicit_search(p: Problem, threads: int) -> Callable[[Any, Pattern], np.ndarray]:
    def search(x: np.ndarray, seen: Pattern) -> np.ndarray:
        shape = (len(x), len(p.x_item))
        matrix = scipy.sparse.csr_matrix((np.ones(len(seen.col)), seen.col, seen.ptr), shape)
        return implicit_topk(p.x_item, x, K, filter_query_items=matrix, num_threads=threads)[0]

    return search


def recommend(p: Problem) -> Callable[[Any, Pattern], np.ndarray]:
    """``Recommender.recommend`` of a model with these tables, for all users of the graph."""
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes = len(p.x_user), len(p.x_item)
    user = np.repeat(np.arange(len(p.x_user)), np.diff(p.seen.ptr))
    edges = np.unique(np.stack([user, p.seen.col]), axis=1)
    data[INTERACTS].edge_index = torch.from_numpy(edges)
    model = MF(data, dim=p.x_item.shape[1])
    with torch.no_grad():
        model.user_embedding.copy_(torch.from_numpy(p.x_user))
        model.item_embedding.copy_(torch.from_numpy(p.x_item))

    return lambda x, seen: model.recommend(data, K)[0].numpy()


def without_mask(p: Problem, kind: str) -> Callable[[Any, Pattern], np.ndarray]:
    index = make_backend(kind, Table.of(p.x_item)).index
    return lambda x, seen: index.search(x, K)[1]


def with_backend(p: Problem, name: str) -> Callable[[Any, Pattern], np.ndarray]:
    backend = make_backend(name, Table.of(p.x_item))
    return lambda x, seen: backend.top_k(x, K, hidden=seen)[0]


def bare_hnswlib(p: Problem) -> Callable[[Any, Pattern], np.ndarray]:
    """The library alone, as many rows as the backend asks it for."""
    index = make_backend("hnswlib", Table.of(p.x_item)).index
    return lambda x, seen: index.knn_query(x, K + 1 + int(np.diff(seen.ptr)[0]))[0]


def searches(p: Problem, forms: list[str], threads: int) -> dict[str, Callable[..., np.ndarray]]:
    made = {
        OURS: lambda: with_backend(p, "numpy"),
        "torch": lambda: torch_search(p),
        "implicit": lambda: implicit_search(p, threads),
        "recommend": lambda: recommend(p),
        "faiss flat": lambda: with_backend(p, "faiss-flat"),
        "faiss flat, no mask": lambda: without_mask(p, "faiss-flat"),
        "faiss IVF": lambda: with_backend(p, "faiss-ivf"),
        "faiss HNSW": lambda: with_backend(p, "faiss-hnsw"),
        "hnswlib": lambda: with_backend(p, "hnswlib"),
        "hnswlib, bare": lambda: bare_hnswlib(p),
    }
    return {name: make() for name, make in made.items() if name in forms}


def check(p: Problem, lists: dict[str, np.ndarray], hidden: Pattern, x: np.ndarray) -> dict:
    """Recall of every list against brute force in float64, on the first users."""
    found = {}
    count = min(len(x), 64)
    scores = x[:count].astype(np.float64) @ p.x_item.T.astype(np.float64)
    for user in range(count):
        scores[user, hidden.col[hidden.ptr[user] : hidden.ptr[user + 1]]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    for name, rows in lists.items():
        if rows is None or "no mask" in name or "bare" in name:
            continue
        hits = [len(np.intersect1d(a, b)) for a, b in zip(rows[:count], best, strict=True)]
        found[name] = sum(hits) / best.size
        if name in (OURS, *EXACT) and found[name] < 0.999:
            raise RuntimeError(f"{name} found {found[name]:.3f} of the exact lists")
    return found


def medians(calls: dict[str, Callable[[], Any]], args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each call, called in turn so that drift affects all equally."""
    clock, taken = CLOCKS[args.clock], {name: [] for name in calls}
    for _ in range(args.runs):
        for name, call in calls.items():
            start = clock()
            call()
            taken[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def bulk(p: Problem, num_users: int, forms: list[str], args: argparse.Namespace) -> dict[str, Any]:
    users = np.arange(min(num_users, len(p.x_user)))
    x, seen = np.ascontiguousarray(p.x_user[users]), part_of(p.seen, users)
    part = p._replace(x_user=x, seen=seen)
    calls: dict[str, Callable[[], Any]] = dict(bare_products(part))
    lists = {}
    for name, search in searches(part, forms, args.threads).items():
        calls[name] = lambda search=search: search(x, seen)
        lists[name] = calls[name]()
    for product in bare_products(part).values():
        product()
    micros = {name: 1e6 * taken / len(x) for name, taken in medians(calls, args).items()}
    micros["product"] = min(micros.pop("product (rows)"), micros.pop("product (tiles)"))
    rivals = [micros[n] for n in EXACT if n in micros]
    result: dict[str, Any] = {"microseconds": micros, "recall": check(p, lists, seen, x)}
    result["ours / product"] = micros[OURS] / micros["product"]
    if rivals:
        result["ours / best exact rival"] = micros[OURS] / min(rivals)
    return result


def percentiles(times: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.array(times) * 1e3, [50, 95, 99])
    return {"p50": p50, "p95": p95, "p99": p99}


def one_by_one(
    calls: dict[str, Callable[[int], Any]], users: np.ndarray, clock: str
) -> dict[str, Any]:
    """Percentiles of milliseconds a request: each form in turn, in short runs of requests."""
    now = CLOCKS[clock]
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for part in np.array_split(users, max(len(users) // 50, 1)):
        for name, call in calls.items():
            for user in part[:3]:
                call(int(user))  # what the other forms threw out of the caches
            for user in part:
                start = now()
                call(int(user))
                taken[name].append(now() - start)
    return {name: percentiles(times) for name, times in taken.items()}


def single(p: Problem, forms: list[str], args: argparse.Namespace) -> dict[str, Any]:
    seen_by = {u: part_of(p.seen, np.array([u])) for u in range(len(p.x_user))}
    index = TopKIndex(p.x_user, p.x_item, seen=p.seen)
    calls: dict[str, Callable[[int], Any]] = {
        "product": lambda u: p.x_item @ p.x_user[u],
        "TopKIndex.search": lambda u: index.search([u], K),
    }
    forms = [form for form in forms if form != "recommend"]  # a request reads the whole graph
    for name, search in searches(p, forms, args.threads).items():
        calls[name] = lambda u, search=search: search(p.x_user[u : u + 1], seen_by[u])
    users = np.random.default_rng(1).integers(0, len(p.x_user), args.requests)
    found = one_by_one(calls, users, args.clock)
    rivals = [found[n]["p50"] for n in EXACT if n in found]
    result: dict[str, Any] = {"milliseconds": found}
    if rivals:
        result["ours / best exact rival"] = found[OURS]["p50"] / min(rivals)
    result["ours / product"] = found[OURS]["p50"] / found["product"]["p50"]
    result["p99 / p50"] = found[OURS]["p99"] / found[OURS]["p50"]
    if "hnswlib, bare" in found:
        bare = found["hnswlib, bare"]["p50"]
        result["hnswlib backend / bare"] = found["hnswlib"]["p50"] / bare
    return result


def scale(args: argparse.Namespace) -> dict[str, Any]:
    """One request over catalogues of 62,500 to 1,000,000 items, against one pass over the table."""
    rng, result = np.random.default_rng(0), {}
    x_user = rng.standard_normal((64, 64), dtype=np.float32)
    for num_items in (62_500, 250_000, 1_000_000):
        x_item = rng.standard_normal((num_items, 64), dtype=np.float32)
        backend = make_backend("numpy", Table.of(x_item))
        seen = Pattern(np.array([0, 30]), rng.integers(0, num_items, 30))
        calls = {
            "product": lambda u, x_item=x_item: x_item @ x_user[u],
            OURS: lambda u, b=backend, s=seen: b.top_k(x_user[u : u + 1], K, hidden=s),
        }
        users = rng.integers(0, 64, min(args.requests, 100))
        found = one_by_one(calls, users, args.clock)
        ratio = found[OURS]["p50"] / found["product"]["p50"]
        result[f"{num_items} items"] = {"milliseconds": found, "ours / product": ratio}
    return result


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """One request to an index of 100,000 items, with 0.1 M to 10 M edges and up to 1 M users."""
    rng, indexes = np.random.default_rng(0), {}
    x_item = rng.standard_normal((100_000, 64), dtype=np.float32)
    for num_users in (10_000, 100_000, 1_000_000):
        ptr = np.arange(num_users + 1) * 10
        x_user = rng.standard_normal((num_users, 64), dtype=np.float32)
        seen = (ptr, rng.integers(0, 100_000, ptr[-1]))
        indexes[f"{num_users} users, {ptr[-1]} edges"] = TopKIndex(x_user, x_item, seen=seen)
    calls = {
        name: lambda u, index=index: index.search([u * (index.num_users // 10_000)], K)
        for name, index in indexes.items()
    }
    found = one_by_one(calls, rng.integers(0, 10_000, args.requests), args.clock)
    medians = [values["p50"] for values in found.values()]
    return {"milliseconds": found, "largest / smallest": medians[-1] / medians[0]}


def show(part: str, row: str, result: dict[str, Any]) -> None:
    print(f"\n{part}: {row}")
    if "microseconds" in result:
        table(
            ["", "us a user", "recall"],
            [[n, v, result["recall"].get(n, "-")] for n, v in result["microseconds"].items()],
        )
    elif "milliseconds" in result:
        rows = [[n, *values.values()] for n, values in result["milliseconds"].items()]
        table(["", "p50 ms", "p95 ms", "p99 ms"], rows)
    print({n: round(v, 2) for n, v in result.items() if isinstance(v, float)}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("bulk", "single", "scale", "growth")
    parser.add_argument("parts", nargs="*", default=parts, metavar="PART", help=", ".join(parts))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--widths", nargs="+", type=int, default=[20, 64, 200])
    parser.add_argument("--forms", nargs="+", help="forms to measure; all by default")
    parser.add_argument("--num-users", type=int, default=5_220, help="users ranked in bulk")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    path = RESULTS / "serving.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    forms = args.forms or [
        OURS, "recommend", *EXACT, "faiss flat, no mask",
        "faiss IVF", "faiss HNSW", "hnswlib", "hnswlib, bare",
    ]  # fmt: skip
    results = {part: dict(stored.get(part, {})) for part in parts}

    def note(part: str, row: str, result: dict[str, Any]) -> None:
        measured = {"threads": args.threads, "clock": args.clock}
        results[part][f"{row}, {args.threads} threads, {args.clock}"] = measured | result
        show(part, row, result)
        write("serving", {"k": K, **results})

    with threadpool_limits(args.threads):
        for size in args.sizes:
            for width in args.widths if {"bulk", "single"} & set(args.parts) else ():
                num_users, num_items, degree = SIZES[size]
                num_users = min(num_users, args.num_users)
                p = problem(num_users, num_items, degree, width)
                if "bulk" in args.parts:
                    chosen = [f for f in forms if f != "hnswlib, bare"]
                    note("bulk", f"{size}, width {width}", bulk(p, num_users, chosen, args))
                if "single" in args.parts and width == 64:
                    note("single", f"{size}, width {width}", single(p, forms, args))
        if "scale" in args.parts:
            for row, result in scale(args).items():
                note("scale", row, result)
        if "growth" in args.parts:
            note("growth", "100000 items, width 64", growth(args))


if __name__ == "__main__":
    main()
