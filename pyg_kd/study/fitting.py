"""Models of recipes: trained or computed, and their state in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from pyg_kd.knowledge import Listed, load_knowledge
from pyg_kd.models import MF, Recommender
from pyg_kd.models.inference import inference, represent
from pyg_kd.models.state_files import load_state
from pyg_kd.study.building import ALS, is_trained, make_method, make_model, make_trainer
from pyg_kd.study.data import Graphs
from pyg_kd.training import AlternatingLeastSquares, validate
from pyg_kd.training.ensemble import num_bytes
from pyg_kd.training.options import Callback
from pyg_kd.typing import ITEM, USER

STATE, KNOWLEDGE = "state.safetensors", "knowledge.safetensors"


def fitted(
    recipe: dict[str, Any],
    graph: HeteroData,
    graphs: Graphs,
    callbacks: Sequence[Callback] = (),
) -> tuple[Recommender, dict[str, Any]]:
    """A model of a recipe, trained or computed; what the record says of it."""
    model, metric = make_model(recipe, graph), recipe["metric"]
    found: dict[str, Any] = {}
    if is_trained(recipe["class"]):
        components = recipe.get("components", ())
        pairs = [(make_method(c, "methods"), c["weight"]) for c in components]
        trainer = make_trainer(recipe["trainer"], "trainer", seed=recipe["seed"], metric=metric)
        history = trainer.fit(
            model, graph, val_data=graphs.val, distillations=pairs, callbacks=callbacks
        )
        found = {
            "validation": max(history[metric]),
            "epochs": len(history),
            "best_epoch": history.best_epoch,
            "curve": [[r["epoch"], r[metric]] for r in history if metric in r],
            "measures": {"seconds an epoch": sum(history["seconds"]) / len(history)},
        }
    elif recipe["class"] == ALS and isinstance(model, MF):
        options = recipe["options"] if "options" in recipe else recipe["model"]
        solver = AlternatingLeastSquares(**options, seed=recipe["seed"], progress=False)
        solver.fit(model, graph)
    if "validation" not in found:
        found["validation"] = validate(model, graphs.train, graphs.val, metric)[metric]
    return model, {**found, "size_bytes": size_of(model, graph)}


def model_of(recipe: dict[str, Any], graphs: Graphs, folder: Path) -> Recommender:
    r"""The model of a run that was trained.

    Raises:
        ValueError: If its state is missing or damaged.
    """
    if recipe.get("class") is None:
        graph = load_knowledge(folder / KNOWLEDGE, graphs.train)
        if "teacher_items" in graph[USER]:
            return Listed(graph)
        return Recommender.from_embeddings(graph, graph[USER].teacher_x, graph[ITEM].teacher_x)
    model = make_model(recipe, graphs.train)
    if model.trainable:
        try:
            load_state(model, folder / STATE)
        except OSError as error:
            name, path = type(model).__name__, folder / STATE
            raise ValueError(f"'{path}' is no state of this {name} ({error})") from error
    return model


def size_of(model: Recommender, graph: HeteroData) -> int:
    """Bytes of the vectors that are served, or of the model where it has none."""
    if not model.latent:
        return num_bytes(model)
    with inference(model):
        return sum(x.numel() * x.element_size() for x in represent(model, graph).values())
