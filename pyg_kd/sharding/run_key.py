"""What two runs on sharded tables have in common where one can go on from the other's state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.knowledge.requirements import KNOWLEDGE
from pyg_kd.knowledge.values import PLACES
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.sharding.options import ShardedOptions
from pyg_kd.sharding.teacher import TeacherTable
from pyg_kd.training.resume_key import describe, digest

#: Options that change what an epoch computes.
KEYS = ("batch_size", "batch_by", "lr", "method_lr", "base_weight", "num_negatives", "seed")

#: Options that change which rows are the best, where there is a validation graph.
VALIDATION_KEYS = ("metric", "evaluate_every", "restore_best")


def run_key(
    options: ShardedOptions,
    model: ShardedMF,
    owners: Sequence[nn.Module],
    weights: Sequence[float],
    data: HeteroData,
    val_data: HeteroData | None,
) -> dict[str, Any]:
    r"""Everything that decides the result of a run, as plain values to save and compare.

    The number of processes and the sharding are not among it.

    Args:
        options: The trainer's options.
        model: The sharded model.
        owners: The base loss, and the methods.
        weights: Weights of the methods.
        data: The training graph.
        val_data: Validation targets.
    """
    validated, methods = val_data is not None, owners[1:]
    return {
        **{name: getattr(options, name) for name in KEYS},
        # A run without methods can be made longer.
        "max_epochs, over which methods anneal,": options.max_epochs if methods else None,
        "model": f"{model.num_users}, {model.num_items}, {model.dim}, {model.optimizer}",
        "loss": describe(owners[0]),
        "distillations": [describe(method) for method in methods],
        "weights": list(weights),
        "graph": digest([("edges", interactions(data).edge_index)]),
        "teacher": getattr(data, "teacher_fingerprint", None) if methods else None,
        "knowledge": digest(_knowledge(data)) if methods else None,
        "val_data": digest(_targets(val_data)) if val_data is not None else None,
        **{name: getattr(options, name) if validated else None for name in VALIDATION_KEYS},
    }


def _knowledge(data: HeteroData) -> Iterable[tuple[str, Tensor]]:
    for store in data.node_stores:
        for name in sorted({*KNOWLEDGE, *PLACES}):
            value = store.get(name)
            # A sharded teacher is told by its fingerprint.
            if isinstance(value, Tensor) and not isinstance(value, TeacherTable):
                yield f"{store._key} {name}", value


def _targets(data: HeteroData) -> Iterable[tuple[str, Tensor]]:
    for store in data.edge_stores:
        for name in ("edge_index", "edge_label_index", "edge_label"):
            if isinstance(store.get(name), Tensor):
                yield name, store[name].as_subclass(Tensor)
