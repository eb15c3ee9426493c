"""What ``evaluate`` does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd import evaluation
from pyg_kd.cli.console import show_json
from pyg_kd.cli.options import Metrics
from pyg_kd.cli.options.evaluate import Evaluated
from pyg_kd.cli.pairs import find, read_pairs
from pyg_kd.cli.pipeline.data import Graphs, raw_ids
from pyg_kd.cli.pipeline.fitting import lengths
from pyg_kd.cli.pipeline.index_metrics import index_metrics
from pyg_kd.cli.pipeline.saved import SavedRun
from pyg_kd.cli.runs import RECORD
from pyg_kd.graph import interactions
from pyg_kd.retrieval import Ids, TopKIndex, load_student
from pyg_kd.typing import INTERACTS, ITEM, USER

#: What of a file does not count, and how often.
Told = dict[str, dict[str, int]]


def run_evaluation(evaluated: Evaluated) -> None:
    """Measure, and print."""
    path = Path(evaluated.model).expanduser()
    if (path / RECORD).is_file():
        return show_json(of_run(SavedRun.open(path), evaluated))
    index = load_student(path)
    saved = SavedRun.open(path.parent) if (path.parent / RECORD).is_file() else None
    show_json(of_bundle(index, saved, evaluated))


def of_run(saved: SavedRun, evaluated: Evaluated) -> dict[str, Any]:
    """Metrics of the models of a run."""
    graphs = saved.graphs()
    metrics, told = wanted(evaluated, saved), Told()
    target = graphs.test
    if evaluated.interactions is not None:
        users, items = (ids_of(graphs.all, node_type) for node_type in (USER, ITEM))
        found, told = later(evaluated, users, items, interactions(graphs.all).edge_index)
        target = copy.copy(graphs.all)
        target[INTERACTS].edge_label_index = found
    if target is None:
        raise ValueError(f"'{saved.run.path}' holds nothing out: give --interactions")
    ks = lengths(metrics, graphs.sizes["items"])
    values = {
        name: evaluation.evaluate(
            saved.model(name, graphs),
            graphs.train,
            target,
            ks,
            metrics.metrics,
            progress=evaluated.progress,
        )
        for name in saved.names
    }
    return {"metrics": values, **counted(target[INTERACTS].edge_label_index), **told}


def of_bundle(index: TopKIndex, saved: SavedRun | None, evaluated: Evaluated) -> dict[str, Any]:
    """Metrics of what a bundle lists."""
    metrics = wanted(evaluated, saved)
    known, told = seen_edges(index), Told()
    if evaluated.interactions is not None:
        targets, told = later(evaluated, index.users, index.items, known)
    elif saved is not None:
        if saved.refitted:
            raise ValueError(
                f"'{evaluated.model}' was trained on the test interactions as well (refit): give "
                "--interactions"
            )
        graphs = saved.graphs()
        test = held_out(saved, graphs)
        targets, known = test[INTERACTS].edge_label_index, interactions(test).edge_index
    else:
        raise ValueError(
            f"'{evaluated.model}' does not lie in a run, whose test interactions it could be "
            "measured on: give --interactions"
        )
    values = index_metrics(
        index, known, targets, lengths(metrics, index.num_items), metrics.metrics
    )
    return {"metrics": {"bundle": values}, **counted(targets), **told}


def ids_of(graph: HeteroData, node_type: str) -> Ids:
    """The original ids of a graph's nodes."""
    raw = raw_ids(graph, node_type)
    return Ids(raw, None if raw is not None else int(graph[node_type].num_nodes), node_type)


def held_out(saved: SavedRun, graphs: Graphs) -> HeteroData:
    """The test graph of a run."""
    if graphs.test is None:
        raise ValueError(f"'{saved.run.path}' holds nothing out: give --interactions")
    return graphs.test


def wanted(evaluated: Evaluated, saved: SavedRun | None) -> Metrics:
    """What is measured."""
    metrics = Metrics() if saved is None else saved.metrics
    given = {"k": evaluated.k, "metrics": evaluated.metrics}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(metrics, **changed)


def later(evaluated: Evaluated, users: Ids, items: Ids, known: Tensor) -> tuple[Tensor, Told]:
    r"""The interactions of a file that can be found, int64 ``[2, E]``, and what is left out.

    Args:
        evaluated: The file and its columns.
        users: The ids of the users.
        items: The ids of the items.
        known: The interactions that are known, int64 ``[2, E]``.

    Raises:
        ValueError: If nothing is left.
    """
    path = Path(str(evaluated.interactions)).expanduser()
    pairs = list(read_pairs(path, evaluated.user, evaluated.item))
    user = find([pair[0] for pair in pairs], users)
    item = find([pair[1] for pair in pairs], items)
    both = (user >= 0) & (item >= 0)
    keys = np.unique(user[both] * len(items) + item[both])
    old = known[0].numpy() * len(items) + known[1].numpy()
    fresh = keys[~np.isin(keys, old)]
    left_out = {
        "unknown user": int((user < 0).sum()),
        "unknown item": int(((user >= 0) & (item < 0)).sum()),
        "known already": int(len(keys) - len(fresh)),
    }
    if not len(fresh):
        raise ValueError(f"'{path}' holds nothing that is not known, of known users and items")
    targets = torch.from_numpy(np.stack([fresh // len(items), fresh % len(items)]))
    return targets, {"left out": left_out}


def seen_edges(index: TopKIndex) -> Tensor:
    """What users have seen, int64 ``[2, E]``."""
    ptr, col = index.seen.pattern
    user = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    return torch.from_numpy(np.stack([user, col.astype(np.int64)]))


def counted(targets: Tensor) -> dict[str, int]:
    """How much there is to find."""
    return {"users": int(targets[0].unique().numel()), "interactions": targets.size(1)}
