"""Runs of the protocol: what each is made of, its training, and its one look at the test targets.

A run is known by the digest of all it is made of: a run that is kept is taken over only if nothing
of its recipe has changed.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pyg_kd as kd
from pyg_kd import training
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge, load_knowledge, save_knowledge
from pyg_kd.models import MF, LightGCN, Recommender
from pyg_kd.models.inference import inference
from pyg_kd.models.spectral import spectral_embeddings
from pyg_kd.training import Trainer
from pyg_kd.training.compression import DRAWN, LABELS, RECIPE

BACKBONES = {"mf": MF, "lightgcn": LightGCN}
TEACHER = "teacher"
#: Items that a teacher lists.
LISTED = 500

Recipe = dict[str, Any]
#: The parts of a recipe that a method or a setting adds to, key by key.
PARTS = ("model", "trainer", "options")


def recipe(
    config: Mapping[str, Any], split: str, row: str, setting: Mapping[str, Any], seed: int
) -> Recipe:
    """All that a run depends on, but for what it learns from its teacher."""
    layers = [config[TEACHER if row == TEACHER else "student"]]
    if row != TEACHER:
        method = config["methods"][row]
        layers += [from_compress(config["items"])] if method.get("compress") else []
        layers.append(method)
    layers.append(setting)
    found: Recipe = {
        "role": TEACHER if row == TEACHER else "student",
        "split": split,
        "teacher": None,
        "backbone": config["backbone"],
        "metric": config["metric"],
        "seed": seed,
    }
    for part in PARTS:
        found[part] = {k: v for layer in layers for k, v in layer.get(part, {}).items()}
    for single in ("dim", "method", "weight"):
        found[single] = next((x[single] for x in reversed(layers) if single in x), None)
    start = next((x["start"] for x in reversed(layers) if "start" in x), None)
    return found if start is None else found | {"start": start}


def from_compress(num_items: int) -> dict[str, Any]:
    """How the student of ``compress`` learns from its teachers' lists."""
    share = min(1.0, DRAWN / num_items)
    # As they are read back from JSON, where a tuple is a list.
    layer: dict[str, Any] = json.loads(
        json.dumps({
            "method": "SoftLabel",
            "weight": 1.0,
            "options": LABELS | {"share": share},
            "trainer": RECIPE,
            "model": {"init_std": 0.1},
        })
    )  # fmt: skip
    return layer


def key_of(recipe: Recipe) -> str:
    """The name of a run."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


class Runs:
    """Runs in a folder, trained if they are missing and there is time.

    Args:
        graphs: Training, validation and test graph.
        out: The folder.
        stored: Runs of the results by key, whose validation values are taken over.
        minutes: No run is started after so many minutes.
    """

    def __init__(
        self, graphs: list[Any], out: Path, stored: Mapping[str, Any], minutes: float
    ) -> None:
        self.graphs, self.out, self.stored = graphs, out, stored
        self.until = time.monotonic() + 60 * minutes
        out.mkdir(parents=True, exist_ok=True)

    def path(self, recipe: Recipe, kind: str) -> Path:
        return self.out / f"{key_of(recipe)}.{kind}"

    def record(self, recipe: Recipe) -> dict[str, Any] | None:
        """What is known of a run, trained or not."""
        path = self.path(recipe, "json")
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        return self.stored.get(key_of(recipe))

    def trained(self, recipe: Recipe, label: str, *, vectors: bool = False) -> bool:
        """Train a run unless it is known; with ``vectors`` unless those are at hand, too."""
        known = self.record(recipe) is not None
        if known and (not vectors or self.path(recipe, "pt").exists()):
            return True
        if time.monotonic() > self.until:
            return False
        started = time.process_time()
        graph = self.graphs[0]
        if recipe["method"] is not None:
            graph = load_knowledge(self.out / f"{recipe['teacher']}.safetensors", graph)
        model, found = fit(recipe, graph, self.graphs[1])
        with inference(model):
            torch.save(model(self.graphs[0]), self.path(recipe, "pt"))
        found = {"recipe": recipe, **found, "CPU seconds": time.process_time() - started}
        if recipe["role"] == TEACHER:
            listed = min(LISTED, self.graphs[0]["item"].num_nodes)
            knowledge = extract_knowledge(model, self.graphs[0], num_items=listed)
            save_knowledge(knowledge, self.path(recipe, "safetensors"))
        self.path(recipe, "json").write_text(json.dumps(found))
        told = {k: v for k, v in found.items() if k != "recipe"}
        print(label, json.dumps(told), flush=True)
        return True

    def tested(self, recipe: Recipe) -> dict[str, Tensor]:
        """The test metrics of every user, of a trained run; read once, then kept."""
        path = self.path(recipe, "test.pt")
        if not path.exists():
            x = torch.load(self.path(recipe, "pt"), weights_only=True)
            model = Recommender.from_embeddings(self.graphs[0], x["user"], x["item"])
            train, test = self.graphs[0], self.graphs[2]
            found = evaluate(model, train, test, (10, 20), ("recall", "ndcg"), per_user=True)
            torch.save(found.values, path)
        values: dict[str, Tensor] = torch.load(path, weights_only=True)
        return values


def fit(recipe: Recipe, graph: Any, val: Any) -> tuple[Recommender, dict[str, Any]]:
    """A model, and how its training went."""
    torch.manual_seed(recipe["seed"])
    model = BACKBONES[recipe["backbone"]](graph, recipe["dim"], **recipe["model"])
    if recipe.get("start") == "spectral":
        with torch.no_grad():
            for table, x in zip(
                model.parameters(), spectral_embeddings(graph, model.dim), strict=True
            ):
                table.copy_(x)
    methods = []
    if recipe["method"] is not None:
        method = getattr(kd, recipe["method"])(**recipe["options"])
        methods.append((method, recipe["weight"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the teacher is no better than its student")
        history = trainer_of(recipe).fit(model, graph, val_data=val, distillations=methods)
    metric = recipe["metric"]
    curve = [[row["epoch"], round(row[metric], 4)] for row in history if metric in row]
    return model, {
        "validation": max(history[metric]),
        "best epoch": history.best_epoch,
        "epochs": len(history),
        "seconds an epoch": sum(history["seconds"]) / len(history),
        "curve": curve,
    }


def trainer_of(recipe: Recipe) -> Trainer:
    """The trainer of a run, whose loss may be the name of a class with its options."""
    options = dict(recipe["trainer"])
    if isinstance(options.get("loss"), dict):
        ((name, given),) = options["loss"].items()
        options["loss"] = getattr(training, name)(**given)
    return Trainer(**options, seed=recipe["seed"], metric=recipe["metric"], progress=False)
