"""Does distillation amplify the popularity bias of its teacher?

    python benchmarks/bias.py movielens-100k [--seeds 0 1 2] [--root DIR]
    python benchmarks/bias.py citeulike [--seeds 0 1 2] [--root DIR]
    python benchmarks/bias.py citeulike --write

Split 8:1:1 for every user. A teacher of width 200 by BPR is distilled into students of width 20 by
RRD, by soft labels as ``compress`` does, by RCE-KD and by UnKD, which is meant to remove the bias;
beside them the student alone. On MovieLens each has two settings, and the one with the best
validation NDCG@10 at the first seed is run with the others; on CiteULike settings are those that
configurations of studies chose on validation targets. Every seed has its own
teacher. On MovieLens, soft labels also teach from teachers of other kinds, more and less biased
ones, to see whether a student's bias follows its teacher's.

Trained tables are kept under ``--out``, so a stopped run goes on where it was. ``--write`` reads
the test targets, once, and writes ``results/bias.json``: recall by popularity of the target, and
what the lists favour, for every row.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from report import RESULTS, write

import pyg_kd as kd
from pyg_kd.evaluation import (
    Groups,
    PopularityBias,
    SliceTable,
    TargetRanks,
    activity_groups,
    list_bias,
    popularity_bias,
    popularity_groups,
    slice_targets,
    slice_users,
    target_ranks,
)
from pyg_kd.evaluation.intervals import t_interval
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.knowledge.popularity import popular_unseen
from pyg_kd.models import EASE, GFCF, MF, Recommender
from pyg_kd.models.inference import inference
from pyg_kd.study.data import read_graphs
from pyg_kd.study.insight.bias import amplification
from pyg_kd.study.schema import Dataset
from pyg_kd.training import AlternatingLeastSquares, Trainer
from pyg_kd.training.student_recipe import INIT_STD, LABELS, student_training

DATASETS = {"citeulike": "CiteULike", "movielens-100k": "MovieLens100K"}
SEEDS = (0, 1, 2)
DIM, TEACHER_DIM, K = 20, 200, 20
METRIC = "ndcg@10"
TEACHER, ALONE = "teacher", "student alone"
SHOWN = ("recall@20", "ndcg@20")

#: The trainer of each data set, from grids over rate and decay on validation targets.
COMMON: dict[str, dict[str, Any]] = {
    "citeulike": {"batch_size": 8192, "lr": 0.02, "weight_decay": 0.03, "max_epochs": 40},
    "movielens-100k": {"batch_size": 4096, "lr": 0.01, "weight_decay": 0.1, "max_epochs": 40},
}
TEACHERS: dict[str, dict[str, Any]] = {
    "citeulike": {"lr": 0.01, "weight_decay": 0.02},
    "movielens-100k": {},
}
BASE = {"loss": "bpr", "schedule": "cosine", "warmup": 0.02, "evaluate_every": 10, "patience": None}
#: Epochs of the soft labels, over users; those that `compress` takes where there is none.
LABEL_EPOCHS: dict[str, int | None] = {"citeulike": 40, "movielens-100k": None}

#: The weights of each method; temperatures of the soft labels, decay of the student alone.
SETTINGS: dict[str, dict[str, tuple[Any, ...]]] = {
    "citeulike": {
        ALONE: (0.03,),
        "RRD": (0.01,),
        "RCE-KD": (30.0,),
        "SoftLabel": ((4.0, 20.0),),
        "UnKD": (0.01,),
    },
    "movielens-100k": {
        ALONE: (0.03, 0.1),
        "RRD": (0.003, 0.03),
        "RCE-KD": (3.0, 30.0),
        "SoftLabel": ((4.0, 20.0), (8.0, 40.0)),
        "UnKD": (0.003, 0.03),
    },
}
METHODS: dict[str, Any] = {
    "RRD": kd.RelaxedRankingDistillation,
    "RCE-KD": kd.RejuvenatedCrossEntropy,
    "UnKD": kd.UnbiasedDistillation,
}

#: Teachers of other kinds, whose lists are distilled.
OTHERS: dict[str, Any] = {
    "EASE": EASE,
    "GF-CF": GFCF,
    "ALS": lambda data: AlternatingLeastSquares(
        alpha=10.0, regularization=50.0, progress=False
    ).fit(MF(data, TEACHER_DIM), data),
}
FOLLOWERS = ("SoftLabel",)

Ranks = list[TargetRanks]


class Bias:
    """The runs of a data set, trained if they are missing.

    Args:
        name: The data set.
        graphs: Training, validation and test graph.
        out: Where trained tables are kept.
    """

    def __init__(self, name: str, graphs: list[Any], out: Path) -> None:
        self.name, self.graphs, self.out = name, graphs, out / name
        self.out.mkdir(parents=True, exist_ok=True)

    def model(self, row: str, setting: int, seed: int) -> tuple[Recommender, float]:
        """A trained model and its validation metric."""
        path = self.out / f"{row.replace(' ', '_').replace('/', '-')}-{setting}-{seed}.pt"
        if not path.exists():
            started = time.process_time()
            model, value = self.train(row, setting, seed)
            with inference(model):
                x = model(self.graphs[0])
            torch.save({**x, "value": value}, path)
            taken = time.process_time() - started
            print(self.name, row, setting, seed, f"{value:.4f} {taken:.0f} CPU s", flush=True)
        kept = torch.load(path, weights_only=True)
        model = Recommender.from_embeddings(self.graphs[0], kept["user"], kept["item"])
        return model, kept["value"]

    def train(self, row: str, setting: int, seed: int) -> tuple[Recommender, float]:
        """Train a row: the teacher, the student alone, a method, or one of another teacher."""
        method, _, source = row.partition(" of ")
        options = {**BASE, **COMMON[self.name]}
        data = self.graphs[0]
        torch.manual_seed(seed)
        if row == TEACHER:
            options |= TEACHERS[self.name]
            return self.fit(MF(data, TEACHER_DIM), data, [], options, seed)
        chosen = SETTINGS[self.name][method][setting]
        if method == ALONE:
            return self.fit(MF(data, DIM), data, [], {**options, "weight_decay": chosen}, seed)
        teacher = OTHERS[source](data) if source else self.model(TEACHER, 0, seed)[0]
        graph = extract_knowledge(teacher, data, num_items=min(500, data["item"].num_nodes))
        torch.manual_seed(seed)  # whatever the teacher drew
        if method == "SoftLabel":
            options = student_training(data["user"].num_nodes, LABEL_EPOCHS[self.name])
            label = kd.SoftLabel(**{**LABELS, "temperature": chosen})
            return self.fit(MF(data, DIM, init_std=INIT_STD), graph, [(label, 1.0)], options, seed)
        return self.fit(MF(data, DIM), graph, [(METHODS[method](), chosen)], options, seed)

    def fit(
        self, model: Any, graph: Any, methods: list[Any], options: dict[str, Any], seed: int
    ) -> tuple[Recommender, float]:
        trainer = Trainer(**options, seed=seed, metric=METRIC, progress=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the teacher is no better than its student")
            history = trainer.fit(model, graph, val_data=self.graphs[1], distillations=methods)
        return model, max(history[METRIC])

    def choice(self, row: str) -> int:
        """The setting with the best validation metric at the first seed."""
        if row == TEACHER:
            return 0
        method = row.partition(" of ")[0]
        settings = range(len(SETTINGS[self.name][method]))
        if len(settings) == 1:
            return 0
        found = [self.model(method, setting, SEEDS[0])[1] for setting in settings]
        return found.index(max(found))

    def rows(self) -> list[str]:
        others = [f"{m} of {t}" for t in OTHERS for m in FOLLOWERS]
        return [TEACHER, *SETTINGS[self.name], *(others if self.name == "movielens-100k" else [])]

    def runs(self, seeds: list[int]) -> dict[str, list[Recommender]]:
        """The models of every row, seed by seed; students of other teachers have the first."""
        found: dict[str, list[Recommender]] = {}
        for seed in seeds:
            for row in self.rows():
                if " of " not in row or seed == seeds[0]:
                    found.setdefault(row, []).append(self.model(row, self.choice(row), seed)[0])
        return found

    def summary(self, seeds: list[int]) -> dict[str, Any]:
        """Slices and bias of every row, the means of the seeds."""
        train, _, test = self.graphs
        models = self.runs(seeds)
        activity = activity_groups(train)
        found: dict[str, Any] = {}
        biases = {row: [popularity_bias(m, train, K) for m in of] for row, of in models.items()}
        ranks = {r: [target_ranks(m, train, test, K) for m in of] for r, of in models.items()}
        for row in models:
            entry = {"setting": self.shown(row), **bias_entry(biases[row], activity)}
            entry |= self.sliced(ranks[row], None if row == TEACHER else ranks[TEACHER], activity)
            if row != TEACHER:
                others = {"teacher": biases[TEACHER], "student alone": biases[ALONE]}
                entry["tail's share minus the teacher's"] = tail_change(
                    biases[row], biases[TEACHER]
                )
                entry["popularity of the lists minus that of"] = {
                    name: dict(
                        zip(("lift", "interval"), amplification(biases[row], other), strict=True)
                    )
                    for name, other in others.items()
                }
            found[row] = entry
        for name, make in OTHERS.items():
            if self.name == "movielens-100k":
                found[name] = bias_entry([popularity_bias(make(train), train, K)], activity)
        users = torch.arange(train["user"].num_nodes)
        popular = list_bias(popular_unseen(train, users, K), train, users)
        found["most popular"] = bias_entry([popular], activity)
        return {"rows": found, "held-out items": held_out(train, test)}

    def sliced(self, of: Ranks, against: Ranks | None, activity: Groups) -> dict[str, Any]:
        """The test metrics of a row, by activity and by popularity of the target."""
        runs = [ranks.per_user(*SHOWN) for ranks in of]
        others = None if against is None else [ranks.per_user(*SHOWN) for ranks in against]
        found: dict[str, Any] = {n: mean(run.mean[n] for run in runs) for n in SHOWN}
        users = slice_users(runs, activity, reference=others, metric=SHOWN[1])
        targets = slice_targets(of, popularity_groups(self.graphs[0]), reference=against)
        return found | {"slices": {"activity": plain(users), "popularity": plain(targets)}}

    def shown(self, row: str) -> Any:
        method = row.partition(" of ")[0]
        return None if row == TEACHER else SETTINGS[self.name][method][self.choice(row)]


def bias_entry(runs: list[PopularityBias], activity: Groups) -> dict[str, Any]:
    """The means of a row's seeds, and the deviation of the lift."""
    entry: dict[str, Any] = {
        name: mean(run.to_dict()[name] for run in runs) for name in runs[0].to_dict()
    }
    entry["lift deviation"] = stdev(r.lift for r in runs) if len(runs) > 1 else None
    entry["lift by activity"] = {
        name: mean(run.lift_of(activity.of[run.user] == g) for run in runs)
        for g, name in enumerate(activity.names)
    }
    return entry


def tail_change(runs: list[PopularityBias], others: list[PopularityBias]) -> dict[str, Any]:
    """By how much more of the lists the long tail has, user by user."""
    own, other = (torch.stack([run.values["tail"] for run in of]).mean(0) for of in (runs, others))
    values = (own - other).numpy()
    return {"share": float(values.mean()), "interval": t_interval(values)}


def held_out(train: Any, test: Any) -> dict[str, float]:
    """The popularity bias of the test items themselves: what an unbiased list would have."""
    user, item = test["user", "item"].edge_label_index
    order = user.argsort(stable=True)
    count = torch.bincount(user, minlength=train["user"].num_nodes)
    users = count.nonzero().squeeze(1)
    lists = torch.full((len(users), int(count.max())), -1)
    place = torch.arange(lists.size(1)).expand_as(lists) < count[users].unsqueeze(1)
    lists[place] = item[order]
    return list_bias(lists, train, users).to_dict()


def plain(table: SliceTable) -> dict[str, Any]:
    """The numbers of a table, by slice."""
    kept = ("users", "value", "interval", "retention", "retention_interval")
    return {row.name: {name: getattr(row, name) for name in kept} for row in table}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", choices=[*SETTINGS])
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--root", help="folder of the data; its usual place by default")
    parser.add_argument("--out", type=Path, default=Path("runs/bias"))
    parser.add_argument("--write", action="store_true", help="test, and write the results")
    args = parser.parse_args()
    dataset = Dataset(data=DATASETS[args.data], split={"UserSplit": {"val": 0.1, "test": 0.1}})
    split = read_graphs(dataset, args.root)
    graphs, digest = list(split), split.fingerprints["split"]
    bias = Bias(args.data, graphs, args.out)
    if not args.write:
        bias.runs(args.seeds)
    else:
        path = RESULTS / "bias.json"
        stored = json.loads(path.read_text())["data"] if path.exists() else {}
        found = {"seeds": args.seeds, "split sha256": digest, **bias.summary(args.seeds)}
        write("bias", {"k": K, "data": {**stored, args.data: found}})


if __name__ == "__main__":
    main()
