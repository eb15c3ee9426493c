"""When to refresh a student: policies on a timeline of blocks, what each gains and costs.

    python benchmarks/refresh.py movielens-100k --root DIR --cache FOLDER --seeds 0 1 2
    python benchmarks/refresh.py stable --cache FOLDER --seeds 0 1 2
    python benchmarks/refresh.py drifting --cache FOLDER --seeds 0 1 2

Half of all interactions, by their times, are the base block, and five blocks of equal size follow;
a tenth of each is held out for measuring what is forgotten. ``stable`` and ``drifting`` are
synthetic streams of the same size, in which users join all the time: in the second, each liked
group of each user changes twice in two years in the mean, and popularity rises and falls. The
student is that of ``compress``, of width 20, with one teacher and fewer epochs. Chosen on
validation targets, with the first seed, are the setting of the teacher on those of the base
block, and epochs, learning rate and the weight of own interactions where the student of an old
teacher learns of new interactions, on those of the first block.

Every step is kept in the cache, so that a run that was interrupted goes on. Times of CPU are those
of the run that computed a step.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from report import RESULTS, machine, write
from torch_geometric.data import HeteroData

from pyg_kd.datasets import MovieLens100K, SyntheticStream
from pyg_kd.json_files import read_json, write_json
from pyg_kd.study.refresh import (
    POLICIES,
    DistilAgain,
    FineTune,
    NamedTeacher,
    NewTeacher,
    Recipe,
    SoftLabelStudent,
    Task,
    run_refresh,
)
from pyg_kd.study.refresh.measures import Measures
from pyg_kd.transforms import TimeBlocks
from pyg_kd.typing import INTERACTS

BLOCKS = TimeBlocks(base=0.5, increments=5, val=0.1, probe=0.1)
METRIC = "recall@20"
TEACHERS = [NamedTeacher("als", place) for place in range(3)]
#: Epochs of a student from scratch: fewer than those of ``compress``, as 15 are trained a seed.
EPOCHS = 80
#: What is tried of fine-tuning: epochs, learning rates, and what own interactions count.
GRID: dict[str, tuple[float, ...]] = {
    "tuning_epochs": (3, 10, 30),
    "tuning_lr": (0.001, 0.003, 0.01),
    "tuning_own_weight": (0.0, 0.5, 2.0),
}
#: What own interactions count for a student who is distilled again from the old teacher.
OWN = (0.25, 1.0, 4.0)
DAY = 86_400


def data_of(name: str, root: str | None) -> HeteroData:
    """The graph of a data set."""
    if name == "movielens-100k":
        return MovieLens100K(root)[0]
    change = {"drift": 2.0, "swing": 1.0} if name == "drifting" else {"drift": 0.0, "swing": 0.0}
    sizes = {"num_users": 600, "num_items": 300, "num_edges": 18_000}
    return SyntheticStream(joining=0.9, **sizes, **change)[0]


def spans(data: HeteroData) -> dict[str, float]:
    """How long users stay: shares of those whose interactions all lie within a time."""
    user, time = data[INTERACTS].edge_index[0], data[INTERACTS].time
    size = int(data["user"].num_nodes)
    first = torch.full((size,), time.max() + 1).scatter_reduce(0, user, time, "amin")
    last = torch.full((size,), time.min() - 1).scatter_reduce(0, user, time, "amax")
    span = (last - first)[torch.bincount(user, minlength=size) > 0]
    days = {"an hour": 1 / 24, "a day": 1, "a week": 7, "30 days": 30}
    found = {name: float((span < day * DAY).double().mean()) for name, day in days.items()}
    return found | {"days of all": float(time.max() - time.min()) / DAY}


def chosen(data: HeteroData, cache: Path) -> tuple[Recipe, SoftLabelStudent, dict[str, Any]]:
    """A recipe and the student that is distilled again, chosen on validation targets, and how."""
    path = cache / "choice.json"
    if not path.exists():
        write_json(path, _tried(data))
    tried = read_json(path)
    place = max(tried["teacher"], key=tried["teacher"].get)
    best = max(tried["tuning"], key=tried["tuning"].get)
    values = dict(zip(GRID, map(float, best.split(", ")), strict=True))
    student = SoftLabelStudent(
        epochs=EPOCHS, tuning_epochs=int(values["tuning_epochs"]), tuning_lr=values["tuning_lr"],
        tuning_own_weight=values["tuning_own_weight"],
    )  # fmt: skip
    # No weight is the end of what there is, not of what was tried.
    edges = {
        name: value in (min(GRID[name]), max(GRID[name])) and value > 0
        for name, value in values.items()
    }
    own = max(tried["own weight"], key=tried["own weight"].get)
    again = SoftLabelStudent(epochs=EPOCHS, own_weight=float(own))
    found = {**tried, "at the edge": [name for name, edge in edges.items() if edge]}
    return Recipe(NamedTeacher("als", int(place)), student), again, found


def _tried(data: HeteroData) -> dict[str, dict[str, float]]:
    steps = BLOCKS(data)[:2]
    measures = Measures(data, steps, METRIC)
    # What is known, but for the end that is validated on.
    early = [replace(step, test=step.train) for step in steps]
    teachers, values = {}, {}
    task = Task(early[:1], Recipe(), 0)
    for teacher in TEACHERS:
        place = str(teacher.place)
        teachers[place] = Recipe(teacher).new_teacher(early[0].test, 0)
        values[place] = measures.of_validation(teachers[place], task.popularity(), 0)
    best = max(values, key=lambda place: values[place])
    recipe = Recipe(NamedTeacher("als", int(best)), SoftLabelStudent(epochs=EPOCHS))
    base = Task(steps[:1], recipe, 0).from_scratch()
    task = Task([steps[0], early[1]], recipe, 0)
    teacher, start = task.up_to_date(base.teacher, 0), task.fold_in(base.trained, 0, "fold-in")
    users, popularity = FineTune().learnt_from(task), task.popularity()
    tuning, own_weight = {}, {}
    for epochs, rate, own in product(*GRID.values()):
        student = SoftLabelStudent(
            epochs=EPOCHS, tuning_epochs=int(epochs), tuning_lr=rate, tuning_own_weight=own
        )
        tuned = Recipe(recipe.teacher, student).new_student(
            task.graph, teacher, 0, users=users, start=start
        )
        tuning[f"{epochs}, {rate}, {own}"] = measures.of_validation(tuned, popularity, 1)
    for own in OWN:
        again = Recipe(recipe.teacher, SoftLabelStudent(epochs=EPOCHS, own_weight=own))
        tables = replace(task, recipe=again).distil(teacher)
        own_weight[str(own)] = measures.of_validation(tables, popularity, 1)
    return {"teacher": values, "tuning": tuning, "own weight": own_weight}


def rounded(value: Any) -> Any:
    """The same with six digits, which are more than seeds agree on."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 6) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=["movielens-100k", "stable", "drifting"])
    parser.add_argument("--root")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", action="store_true", help="write nothing but the cache")
    args = parser.parse_args()
    data, cache = data_of(args.data, args.root), args.cache / args.data
    recipe, again, tried = chosen(data, cache)
    policies = [
        *POLICIES, FineTune(replay=0.2), DistilAgain(again, "own items"), NewTeacher(every=2)
    ]  # fmt: skip
    report = run_refresh(
        data, policies, blocks=BLOCKS, recipe=recipe, metric=METRIC, seeds=args.seeds,
        folder=cache / "runs",
    )  # fmt: skip
    print(report)
    if args.only:
        return
    found = report.to_dict() | {"choice": tried, "seeds": args.seeds, "spans": spans(data)}
    found["records"] = rounded(found["records"])
    found["policies"] = [repr(policy) for policy in policies]
    found["recipe"] = repr(recipe)
    path = RESULTS / "refresh.json"
    before = json.loads(path.read_text())["data"] if path.exists() else {}
    write("refresh", {"data": {**before, args.data: found | {"machine": machine()}}})


if __name__ == "__main__":
    main()
