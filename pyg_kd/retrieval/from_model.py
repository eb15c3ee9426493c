"""From a trained model to the arrays of an index. Imports PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.models import Recommender
from pyg_kd.models.inference import inference, represent
from pyg_kd.typing import ITEM, USER


def tables_of(model: Recommender, graph: HeteroData) -> dict[str, Any]:
    r"""The arguments of a :class:`~pyg_kd.retrieval.TopKIndex` that a model and a graph give.

    Args:
        model: A recommender whose score is an inner product.
        graph: The training graph.

    Returns:
        ``x_user`` and ``x_item``, float32 ``[U, d]`` and ``[I, d]``, ``seen``, and the ids where
        nodes have ``raw_id``.

    Raises:
        ValueError: If the model's score is not an inner product of its representations.
    """
    if not model.inner_product:
        raise ValueError(
            f"an index ranks by inner products, which scores of {type(model).__name__} are not: "
            "distil it into a student that has them, such as MF or LightGCN"
        )
    with inference(model):
        x_dict = represent(model, graph)
    seen = interactions(graph).by_user()
    ids = {
        f"{node_type}_ids": _ids_of(graph[node_type].raw_id)
        for node_type in (USER, ITEM)
        if "raw_id" in graph[node_type]
    }
    # Copies: representations of MF are its parameters, which may be trained on.
    tables = {
        f"x_{name}": x_dict[name].detach().float().cpu().numpy().copy() for name in (USER, ITEM)
    }
    return {
        **tables,
        "seen": (seen.ptr.cpu().numpy(), seen.col.cpu().numpy().astype(np.int32)),
        **ids,
    }


def _ids_of(raw_id: Any) -> Any:
    return raw_id.cpu().numpy() if hasattr(raw_id, "cpu") else raw_id
