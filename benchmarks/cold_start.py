"""What students keep for users and items that came after training.

    python benchmarks/cold_start.py movielens-100k [--seeds 0 1 2] [--root DIR]
    python benchmarks/cold_start.py citeulike [--seeds 0 1 2] [--root DIR]

A tenth of the users and a tenth of the items are taken out of the graph, edges and all, before
anything is trained; a cold user later shows ten of its items. A teacher of width 200 by BPR is
distilled into students of width 20 by RRD, RCE-KD and soft labels; beside them the student alone.
Settings are those that ``bias.py`` chose on validation targets of other splits. Every seed has its
own split, teacher and students.

New users get vectors by fold-in from 0 to 10 of their items. Then all users and items compete in
one ranking, with five items known of a cold user, and of a cold item its genres (MovieLens) or its
first users; and the cold items compete with each other alone. Writes ``results/cold_start.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from statistics import mean, stdev
from typing import Any

import torch
from bias import ALONE, BASE, COMMON, DIM, LABEL_EPOCHS, METHODS, TEACHER, TEACHER_DIM, TEACHERS
from bias import DATASETS as CLASSES
from report import RESULTS, write

import pyg_kd as kd
from pyg_kd import datasets
from pyg_kd.evaluation import SliceTable
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF, Recommender
from pyg_kd.study.cold_start import ColdSplit, cold_split, cold_start, k_shot
from pyg_kd.training import Trainer
from pyg_kd.training.student_recipe import INIT_STD, LABELS, student_training

SHOTS = (0, 1, 2, 3, 5, 10)
ITEM_SHOTS = (1, 5)
K = 20
ROWS = (TEACHER, ALONE, "RRD", "RCE-KD", "SoftLabel")

#: Of each table, of each seed: the slices by row.
Tables = dict[str, list[dict[str, SliceTable]]]


def chosen(data: str) -> dict[str, Any]:
    """The settings of ``bias.py``."""
    rows = json.loads((RESULTS / "bias.json").read_text())["data"][data]["rows"]
    return {row: rows[row]["setting"] for row in ROWS}


def fit(model: Any, graph: Any, methods: list[Any], options: dict[str, Any], seed: int) -> Any:
    trainer = Trainer(**{"progress": False, **options}, seed=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the teacher is no better than its student")
        trainer.fit(model, graph, distillations=methods)
    return model


def trained(data: str, split: ColdSplit, seed: int) -> dict[str, Recommender]:
    """The teacher and every student of the warm part of a graph."""
    train, settings = split.train, chosen(data)
    options = {**BASE, **COMMON[data]}
    del options["evaluate_every"], options["patience"]
    torch.manual_seed(seed)
    teacher = fit(MF(train, TEACHER_DIM), train, [], options | TEACHERS[data], seed)
    graph = extract_knowledge(teacher, train, num_items=min(500, train["item"].num_nodes))
    found = {TEACHER: teacher}
    for row in ROWS[1:]:
        torch.manual_seed(seed)
        if row == ALONE:
            decay = {"weight_decay": settings[row]}
            found[row] = fit(MF(train, DIM), train, [], options | decay, seed)
        elif row == "SoftLabel":
            label = kd.SoftLabel(**{**LABELS, "temperature": tuple(settings[row])})
            labels = student_training(train["user"].num_nodes, LABEL_EPOCHS[data])
            student = MF(train, DIM, init_std=INIT_STD)
            found[row] = fit(student, graph, [(label, 1.0)], labels, seed)
        else:
            found[row] = fit(
                MF(train, DIM), graph, [(METHODS[row](), settings[row])], options, seed
            )
    return found


def measure(data: str, graph: Any, seeds: list[int]) -> dict[str, Any]:
    """All tables, the means of the seeds."""
    tables: Tables = {}
    for seed in seeds:
        started = time.process_time()
        split = cold_split(graph, item_shots=max(ITEM_SHOTS), seed=seed)
        models = trained(data, split, seed)
        tables.setdefault("k-shot", []).append(
            {row: k_shot(model, split, SHOTS, k=K) for row, model in models.items()}
        )
        for name, options in kinds(graph["item"].get("genre"), graph["item"].num_nodes).items():
            world = cold_split(graph, item_shots=options.pop("item_shots"), seed=seed)
            assert torch.equal(world.train["user", "item"].edge_index,
                               split.train["user", "item"].edge_index)  # fmt: skip
            for among, title in (("all", name), ("cold", f"{name}, among cold items")):
                found = {
                    row: cold_start(model, world, k=K, among=among, **options)
                    for row, model in models.items()
                }
                tables.setdefault(title, []).append(found)
        print(data, seed, f"{time.process_time() - started:.0f} CPU s", flush=True)
    return {name: summary(of) for name, of in tables.items()}


def kinds(genre: Any, num_items: int) -> dict[str, dict[str, Any]]:
    """What may be known of a cold item: where it is nothing, it gets the mean vector."""
    features = torch.zeros(num_items, 1) if genre is None else genre
    found = {f"{n} user{'s' * (n > 1)} of a cold item": n for n in ITEM_SHOTS}
    if genre is not None:
        found = {"genres of a cold item": 0, **found}
    return {name: {"item_shots": n, "features": features} for name, n in found.items()}


def summary(runs: list[dict[str, SliceTable]]) -> dict[str, Any]:
    """Every row's slices: means and deviations over seeds."""
    return {
        row: {
            of.name: plain([run[row][of.name].value for run in runs], of.users)
            for of in runs[0][row]
        }
        for row in runs[0]
    }


def plain(values: list[float], users: int) -> dict[str, Any]:
    return {
        "users": users,
        "value": mean(values),
        "deviation": stdev(values) if len(values) > 1 else None,
        "seeds": values,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", choices=[*COMMON])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--root", help="folder of the data; its usual place by default")
    args = parser.parse_args()
    graph = getattr(datasets, CLASSES[args.data])(args.root)[0]
    found = {"seeds": args.seeds, **measure(args.data, graph, args.seeds)}
    path = RESULTS / "cold_start.json"
    stored = json.loads(path.read_text())["data"] if path.exists() else {}
    write("cold_start", {"k": K, "data": {**stored, args.data: found}})


if __name__ == "__main__":
    main()
