"""Teachers of a study: trained, fused, recorded or read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from pyg_kd.knowledge import (
    TrajectoryRecorder,
    attach_trajectories,
    extract_knowledge,
    fuse,
    load_knowledge,
    save_knowledge,
)
from pyg_kd.models.state_files import save_state
from pyg_kd.study.building import is_trained
from pyg_kd.study.data import Graphs
from pyg_kd.study.fitting import KNOWLEDGE, STATE, fitted
from pyg_kd.training import train_ensemble
from pyg_kd.training.validation import Validation


def taught_teacher(recipe: dict[str, Any], graphs: Graphs, folder: Path) -> dict[str, Any]:
    """A teacher, trained, fused or read; what the record says of it."""
    if recipe["class"] is not None:
        model, found = fitted(recipe, graphs.train, graphs)
        if model.trainable:
            save_state(model, folder / STATE)
        return found
    if recipe.get("members"):
        graph, found = of_several(recipe, graphs)
        save_knowledge(graph, folder / KNOWLEDGE)
        return found
    if recipe["file"] is not None:
        graph = load_knowledge(recipe["file"], graphs.train)
        save_knowledge(graph, folder / KNOWLEDGE)
        value = Validation(graphs.train, graphs.val, recipe["metric"]).of_teacher(graph)
        return {"validation": value, "size_bytes": (folder / KNOWLEDGE).stat().st_size}
    ensemble = train_ensemble(
        graphs.train,
        graphs.val,
        teachers=recipe["ensemble"],
        metric=recipe["metric"],
        num_items=recipe["num_items"],
        seed=recipe["seed"],
        progress=False,
    )
    save_knowledge(ensemble.graph, folder / KNOWLEDGE)
    report = ensemble.report
    size = next((row.bytes for row in report.rows if row.name == "ensemble"), None)
    weights = {f"weight of {n}, {i}": w for i, (n, w) in enumerate(report.weights)}
    return {
        "validation": report.value("ensemble"),
        "size_bytes": size or 0,
        "measures": weights,
    }


def of_several(recipe: dict[str, Any], graphs: Graphs) -> tuple[HeteroData, dict[str, Any]]:
    """The trajectories of several teachers on one graph, with their fused lists."""
    trajectories, listed, size = [], [], 0
    num_items = min(recipe["num_items"], int(graphs.train["item"].num_nodes))
    for member in recipe["members"]:
        trained = is_trained(member["class"])
        recorder = TrajectoryRecorder(
            num_items=num_items, num_states=recipe["num_states"] if trained else 1
        )
        whole = {**recipe, **member}
        model, found = fitted(whole, graphs.train, graphs, [recorder] if trained else [])
        trajectories.append(recorder.finish(model, graphs.train))
        listed.append(extract_knowledge(model, graphs.train, num_items=num_items))
        size += found["size_bytes"]
    fused = fuse(listed, val_data=graphs.val, metric=recipe["metric"], num_items=num_items)
    graph = attach_trajectories(fused, trajectories, pad=True)
    value = Validation(graphs.train, graphs.val, recipe["metric"]).of_teacher(fused)
    return graph, {"validation": value, "size_bytes": size}
