"""New users of CiteULike: folding them in beside training again with them.

    python benchmarks/fold_in.py --root DIR [--students soft_label als] [--seeds 0 1 2] [--runs N]

Of the users with 15 items or more, 500 are held out entirely. A student of width 20 is trained
without them; then 1, 2, 3, 5 and 10 of their items become known, and their lists are judged on the
rest, over the whole catalogue, by Recall@20:

* *fold-in*: :func:`~pyg_kd.retrieval.fold_in.fit_fold_in` with its defaults, which sees what the
  student was trained on and nothing of these users;
* *ridge*: regression with the settings of :meth:`FoldIn.default`;
* *retrained*: the student, and its teacher, trained from the beginning with those items;
* *popularity*: the most popular unseen items.

Of users who were trained with 5 items and have 5 more since, the trained vector, what is folded
in from all 10, and :meth:`FoldIn.updated` are compared with training again (*known users*).

Another seed holds out other users and starts elsewhere; tests are over the users of all seeds.
Runs are kept under ``--out``, so that a stopped benchmark goes on where it was: ``--runs`` ends it
after so many trainings. Times are of one thread, as ratios to one exact search for one user.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from report import RESULTS, machine, milliseconds, table, write
from torch_geometric.data import HeteroData

import pyg_kd as kd
from pyg_kd.datasets import CiteULike
from pyg_kd.evaluation import compare
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import EASE, MF, LightGCN, MultVAE, Recommender
from pyg_kd.retrieval.fold_in import FoldIn, encoder_of, fit_fold_in, propagation_source
from pyg_kd.retrieval.search import top_k
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import Table
from pyg_kd.training import Trainer

DIM, HELD_OUT, LEAST, K = 20, 500, 15, 20
KNOWN = (1, 2, 3, 5, 10)
COMMON = {"metric": "recall@20", "patience": None, "progress": False}


class Split(NamedTuple):
    """Interactions in the order of users, those held out last, each user's in random order."""

    user: np.ndarray
    item: np.ndarray
    place: np.ndarray
    num_known: int
    num_items: int

    @staticmethod
    def of(data: HeteroData, seed: int) -> Split:
        user, item = data["user", "item"].edge_index.numpy()
        rng = np.random.default_rng(seed)
        degree = np.bincount(user)
        held = rng.choice(np.flatnonzero(degree >= LEAST), HELD_OUT, replace=False)
        number = np.empty(len(degree), np.int64)
        number[np.argsort(np.isin(np.arange(len(degree)), held), kind="stable")] = np.arange(
            len(degree)
        )
        order = rng.permutation(len(user))
        order = order[np.argsort(number[user[order]], kind="stable")]
        user, item = number[user[order]], item[order]
        first = np.searchsorted(user, user)
        return Split(
            user, item, np.arange(len(user)) - first, len(degree) - HELD_OUT, data["item"].num_nodes
        )

    @property
    def known_user(self) -> np.ndarray:
        return self.user < self.num_known

    def graphs(self, known: int) -> tuple[HeteroData, HeteroData]:
        """The training graph with some items of those held out, and one with validation items."""
        in_graph = np.where(self.known_user, self.place > 0, self.place < known)
        num_users = self.num_known + HELD_OUT * (known > 0)
        graphs = [HeteroData(), HeteroData()]
        for graph in graphs:
            graph["user"].num_nodes, graph["item"].num_nodes = num_users, self.num_items
            graph["user", "interacts", "item"].edge_index = self.pairs(in_graph)
        val = self.pairs(self.known_user & (self.place == 0))
        graphs[1]["user", "interacts", "item"].edge_label_index = val
        return graphs[0], graphs[1]

    def pairs(self, which: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.user[which], self.item[which]]))

    def pattern(self, which: np.ndarray, first: int, size: int) -> Pattern:
        """Some of the interactions of ``size`` users, items ascending."""
        user, item = self.user[which] - first, self.item[which]
        order = np.lexsort((item, user))
        ptr = np.concatenate([[0], np.bincount(user, minlength=size).cumsum()])
        return Pattern(ptr, item[order])

    def training(self, known: int) -> Pattern:
        shown = np.where(self.known_user, self.place > 0, self.place < known)
        return self.pattern(shown, 0, self.num_known + HELD_OUT * (known > 0))

    def held_out(self, known: int) -> tuple[Pattern, Pattern]:
        """What is known of those held out, and the rest."""
        shown = self.place < known
        return tuple(
            self.pattern(~self.known_user & part, self.num_known, HELD_OUT)
            for part in (shown, ~shown)
        )


def soft_label(train: HeteroData, val: HeteroData, seed: int) -> Recommender:
    """Matrix factorisation by the soft labels of EASE."""
    graph = extract_knowledge(EASE(train), train, num_items=100, trusted=True)
    torch.manual_seed(seed)
    model = MF(graph, dim=DIM, init_std=0.1)
    options = {"max_epochs": 40, "evaluate_every": 5, "batch_by": "user", "batch_size": 512}
    Trainer(seed=seed, lr=0.01, base_weight=0.0, **options, **COMMON).fit(
        model, graph, val_data=val, distillations=[(kd.SoftLabel(own_weight=0.3), 1.0)]
    )
    return model


def lightgcn(train: HeteroData, val: HeteroData, seed: int) -> Recommender:
    torch.manual_seed(seed)
    model = LightGCN(train, dim=DIM)
    options = {"max_epochs": 24, "evaluate_every": 3, "batch_size": 2048, "lr": 0.01}
    Trainer(seed=seed, loss="sampled_softmax", **options, **COMMON).fit(model, train, val_data=val)
    return model


def mult_vae(train: HeteroData, val: HeteroData, seed: int) -> Recommender:
    torch.manual_seed(seed)
    model = MultVAE(train, dim=DIM)
    options = {"max_epochs": 25, "evaluate_every": 25, "batch_by": "user", "batch_size": 256}
    Trainer(seed=seed, lr=5e-3, **options, **COMMON).fit(model, train, val_data=val)
    return model


def als(train: HeteroData, val: HeteroData, seed: int) -> Recommender:
    """Implicit alternating least squares, by the package ``implicit``."""
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    edge_index = train["user", "item"].edge_index.numpy()
    sizes = train["user"].num_nodes, train["item"].num_nodes
    seen = csr_matrix((np.ones(edge_index.shape[1]), tuple(edge_index)), shape=sizes)
    model = AlternatingLeastSquares(
        factors=DIM,
        alpha=40.0,
        regularization=10.0,
        iterations=15,
        random_state=seed,
        num_threads=1,
    )
    model.fit(seen, show_progress=False)
    return Recommender.from_embeddings(train, model.user_factors, model.item_factors)


STUDENTS: dict[str, Callable[[HeteroData, HeteroData, int], Recommender]] = {
    "soft_label": soft_label, "lightgcn": lightgcn, "mult_vae": mult_vae, "als": als,
}  # fmt: skip


class Runs:
    """Trained students, from files where they were trained before."""

    def __init__(self, out: Path, most: int | None) -> None:
        self.out, self.left = out, most

    def get(
        self, name: str, split: Split, known: int, seed: int, *, train: bool = True
    ) -> dict[str, Any] | None:
        path = self.out / f"{name}-{known}-{seed}.npz"
        if not path.exists():
            if self.left == 0 or not train:
                return None
            self.left = None if self.left is None else self.left - 1
            self._train(path, name, split, known, seed)
        with np.load(path) as stored:
            return dict(stored)

    def _train(self, path: Path, name: str, split: Split, known: int, seed: int) -> None:
        start = time.perf_counter()
        train, val = split.graphs(known)
        model = STUDENTS[name](train, val, seed).eval()
        with torch.no_grad():
            x_dict = model(train)
        arrays = {f"x_{side}": x_dict[side].detach().numpy() for side in ("user", "item")}
        if known == 0:
            source, encoder = propagation_source(model, train), encoder_of(model)
            arrays |= {} if source is None else {"source": source}
            arrays |= {f"encoder {name}": array for name, array in (encoder or {}).items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        seconds = time.perf_counter() - start
        print(f"{name}, {known} items known, seed {seed}: trained in {seconds:.0f} s", flush=True)


def recall(queries: np.ndarray, x_item: Table, known: Pattern, wanted: Pattern) -> np.ndarray:
    """Recall@20 of every user."""
    rows, _ = top_k(np.ascontiguousarray(queries, np.float32), x_item, K, hidden=known)
    size, user = len(x_item), np.arange(len(rows))
    degree = np.diff(wanted.ptr)
    key = np.repeat(user, degree) * size + wanted.col
    return np.isin(user[:, None] * size + rows, key).sum(1) / degree


def fitted(base: dict[str, Any], training: Pattern, seed: int) -> tuple[FoldIn, float]:
    """The fold-in of a student, and the seconds that fitting it took."""
    encoder = {n.removeprefix("encoder "): x for n, x in base.items() if n.startswith("encoder ")}
    start = time.perf_counter()
    fold_in = fit_fold_in(
        base["x_item"], *training, x_user=base["x_user"], encoder=encoder or None,
        source=base.get("source"), seed=seed,
    )  # fmt: skip
    return fold_in, time.perf_counter() - start


def moved(
    trained: dict[str, Any], again: dict[str, Any], split: Split, seed: int
) -> dict[str, np.ndarray]:
    """Recall of users who were trained with 5 items and have 10 now."""
    fold_in, _ = fitted(trained, split.training(5), seed)
    (before, _), (after, wanted) = split.held_out(5), split.held_out(10)
    vectors, whole = trained["x_user"][split.num_known :], fold_in(*after)
    rows = [
        fold_in.updated(vector, before.col[a:b], after.col[c:d])
        for vector, a, b, c, d in zip(
            vectors, before.ptr[:-1], before.ptr[1:], after.ptr[:-1], after.ptr[1:], strict=True
        )
    ]
    last = again["x_user"][split.num_known :], Table.of(again["x_item"])
    return {
        "trained with 5": recall(vectors, fold_in.x_item, after, wanted),
        "fold-in of 10": recall(whole, fold_in.x_item, after, wanted),
        "updated": recall(np.stack(rows), fold_in.x_item, after, wanted),
        "trained with 10": recall(*last, after, wanted),
    }


def times(fold_in: FoldIn, split: Split) -> dict[str, float]:
    """Milliseconds of one user and of 500, folded in and searched."""
    found = {}
    known, _ = split.held_out(5)
    for size in (1, HELD_OUT):
        part = Pattern(known.ptr[: size + 1], known.col[: known.ptr[size]])
        queries = fold_in(*part)
        fold, search = milliseconds(
            lambda part=part: fold_in(*part),
            lambda queries=queries, part=part: top_k(queries, fold_in.x_item, K, hidden=part),
            runs=51 if size == 1 else 7,
        )
        found |= {f"fold-in of {size}, ms": fold, f"search of {size}, ms": search}
        found[f"fold-in of {size} / search"] = fold / search
    return found


def one_student(
    name: str, data: HeteroData, seeds: list[int], known: list[int], runs: Runs
) -> dict[str, Any] | None:
    """The rows of a student: means over the seeds for which all of it has been trained."""
    values: dict[int, dict[str, list[np.ndarray]]] = {k: {} for k in KNOWN}
    details: dict[str, Any] = {"chosen": [], "seconds of the fit": []}
    known_users: dict[str, list[float]] = {}
    for seed in seeds:
        split = Split.of(data, seed)
        base = runs.get(name, split, 0, seed)
        again = {k: runs.get(name, split, k, seed, train=k in known) for k in KNOWN}
        if base is None:
            continue
        fold_in, seconds = fitted(base, split.training(0), seed)
        details["chosen"].append(fold_in.report["chosen"])
        details["seconds of the fit"].append(seconds)
        details |= times(fold_in, split)
        if again[5] is not None and again[10] is not None:
            for row, value in moved(again[5], again[10], split, seed).items():
                known_users.setdefault(row, []).append(float(value.mean()))
        popularity = np.bincount(split.training(0).col, minlength=split.num_items)
        popular = Table.of(popularity[:, None].astype(np.float32))
        plain, ones = FoldIn.default(fold_in.x_item), np.ones((HELD_OUT, 1))
        for k in KNOWN:
            if (retrained := again[k]) is None:
                continue
            shown, wanted = split.held_out(k)
            found = {
                "retrained": recall(
                    retrained["x_user"][split.num_known :],
                    Table.of(retrained["x_item"]),
                    shown,
                    wanted,
                ),
                "fold-in": recall(fold_in(*shown), fold_in.x_item, shown, wanted),
                "ridge": recall(plain(*shown), fold_in.x_item, shown, wanted),
                "popularity": recall(ones, popular, shown, wanted),
            }
            for row, value in found.items():
                values[k].setdefault(row, []).append(value)
    rows = {str(k): summary(found) for k, found in values.items() if found}
    if known_users:
        details["known users"] = {row: float(np.mean(v)) for row, v in known_users.items()}
    return {"known": rows, **details} if rows else None


def summary(found: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Means, their ratio, and paired tests over the users of all seeds."""
    pooled = {name: torch.from_numpy(np.concatenate(v)) for name, v in found.items()}
    against_popular = compare(pooled["popularity"], {"fold-in": pooled["fold-in"]})["fold-in"]
    against_retrained = compare(pooled["retrained"], {"fold-in": pooled["fold-in"]})["fold-in"]
    means = {name: float(value.mean()) for name, value in pooled.items()}
    return {
        "seeds": len(found["fold-in"]),
        **means,
        "of retrained": means["fold-in"] / means["retrained"],
        "of retrained, by seed": [
            float(a.mean() / b.mean())
            for a, b in zip(found["fold-in"], found["retrained"], strict=True)
        ],
        "against popularity": against_popular._asdict(),
        "against retrained": against_retrained._asdict(),
    }


def show(name: str, student: dict[str, Any]) -> None:
    print(f"\n{name}: {student['chosen']}")
    columns = ("retrained", "fold-in", "ridge", "popularity", "of retrained")
    table(
        ["known", "seeds", *columns, "p, popularity"],
        [
            [k, row["seeds"], *(row[c] for c in columns), row["against popularity"]["p_value"]]
            for k, row in student["known"].items()
        ],
    )
    print({key: round(value, 3) for key, value in student.items() if isinstance(value, float)})
    print(student.get("known users", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data") + "/citeulike")
    parser.add_argument("--out", type=Path, default=Path("out/fold_in"))
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=STUDENTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--known", nargs="+", type=int, default=KNOWN, choices=KNOWN)
    parser.add_argument("--runs", type=int, help="train so many students at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, runs = CiteULike(args.root)[0], Runs(args.out, args.runs)
    results = RESULTS / "fold_in.json"
    students = json.loads(results.read_text())["students"] if results.exists() else {}
    for name in args.students:
        if (student := one_student(name, data, args.seeds, args.known, runs)) is not None:
            students[name] = student
            show(name, student)
    head = {"machine": machine(), "data": "CiteULike, 500 users held out", "dim": DIM}
    write("fold_in", head | {"students": students})


if __name__ == "__main__":
    main()
