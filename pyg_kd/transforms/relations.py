"""Other relations between users and items, in which targets could remain."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_kd.edge_types import interaction_type, types_between
from pyg_kd.graph import as_edges
from pyg_kd.transforms.attributes import edge_attributes, of_targets
from pyg_kd.typing import ITEM, USER

#: Where PyG keeps edges as a sparse matrix.
SPARSE = ("adj", "adj_t")


def without_pairs_(data: HeteroData, *pairs: Tensor) -> HeteroData:
    """Remove user-item pairs, each int64 ``[2, n]``, from all relations but the interactions."""
    chosen = interaction_type(data)
    others = [kind for kind in types_between(data, USER, ITEM) if kind != chosen]
    if not others:
        return data
    hidden = keys(data, torch.cat(pairs, 1))
    for kind in others:
        store = data[kind]
        for key in [key for key in store if of_targets(key)]:
            del store[key]
        kept = ~torch.isin(keys(data, edges_of(data, kind)), hidden)
        store.update(edge_attributes(data, store, kept))
    return data


def edges_of(data: HeteroData, kind: EdgeType) -> Tensor:
    """The edges of a type, int64 ``[2, E]``, or an error that names it."""
    for key in SPARSE:
        if key in data[kind]:
            raise ValueError(
                f"'data[{kind}]' must hold its edges in 'edge_index' alone (got {key!r} too, where "
                "removed edges would remain): delete it, and make it after all transforms"
            )
    return as_edges(data[kind].get("edge_index"), f"edge_index of {kind}")


def keys(data: HeteroData, pairs: Tensor) -> Tensor:
    """One number for each user-item pair, int64 ``[n]``."""
    return pairs[0] * int(data[ITEM].num_nodes) + pairs[1]
