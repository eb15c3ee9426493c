"""When a run can't go on, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.models.base import Recommender
from pyg_kd.training.history import History
from pyg_kd.typing import ITEM, USER

#: Rows that are looked at before all others.
FEW = 256


class TrainingDiverged(RuntimeError):
    """A loss or a representation became NaN or infinite, or all representations became the same.

    ``history`` holds the epochs before. The model has weights of an earlier epoch.
    """

    history: History


def not_finite(losses: Mapping[str, float], epoch: int) -> str | None:
    """What to say of an epoch's mean losses if some are NaN or infinite."""
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if not bad:
        return None
    return f"{', '.join(bad)} is not finite in epoch {epoch} (mean losses {losses})"


@torch.no_grad()
def broken_nodes(model: Recommender, graph: HeteroData) -> tuple[str, str] | None:
    """The first node type with unusable representations, and what they are; else ``None``."""
    x_dict = model(graph)
    for node_type in (USER, ITEM):
        x = x_dict[node_type]
        size = torch.linalg.vector_norm(x)
        if not bool(size.isfinite()):
            finite = bool(x.isfinite().all())
            return node_type, "too large to be squared" if finite else "not finite"
        # A few rows mostly tell, in a fourth of the time.
        least, mean = 1e-8 * size.square(), x.mean(0)
        if len(x) > 1 and all(_spread(rows, mean) <= least for rows in (x[:FEW], x)):
            return node_type, "all the same"
    return None


def _spread(x: Tensor, mean: Tensor) -> Tensor:
    return (x - mean).square().sum()


def non_finite(data: HeteroData, weights: Mapping[str, object]) -> list[str]:
    """Names of tensors with NaN or infinite values on a graph, and in the state of a model."""
    stores: list[Any] = [*data.node_stores, *data.edge_stores]
    named = {f"data[{s._key!r}].{name}": value for s in stores for name, value in s.items()}
    return [
        name
        for name, value in {**named, **weights}.items()
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all()
    ]
