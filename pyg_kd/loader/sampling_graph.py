"""The graph that samplers of neighbours want: edges in both directions, and degrees."""

from __future__ import annotations

import copy

import torch
from torch_geometric.data import HeteroData

from pyg_kd.edge_types import interaction_type
from pyg_kd.functional.subgraph import DEGREE
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER


def sampling_graph(data: HeteroData) -> HeteroData:
    r"""Prepare a graph for PyG's samplers of neighbours.

    They follow edges against their direction, so for users to have neighbours there must be edges
    back. The result is ``data``, copied shallowly, with an edge type from ``item`` to ``user``
    whose relation starts with ``rev_``, and with ``global_degree``, int64, on both node types,
    which batches carry and models normalise by: what is sampled says nothing of it. Lists, such as
    titles or text ids, are left out, since PyG selects rows of tensors and arrays alone:
    ``data["item"].title[n_id[0]]`` tells the first title of a batch.

    It is for loaders alone. Everything else takes the graph as it was, in which targets of a
    split cannot remain.

    Args:
        data: A user-item graph, with knowledge or without.

    Raises:
        ValueError: If edges are repeated, which would be drawn more often than others.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> graph = sampling_graph(from_interactions([[0, 1, 1], [0, 0, 1]]))
        >>> graph.edge_types
        [('user', 'interacts', 'item'), ('item', 'rev_interacts', 'user')]
        >>> graph["item"].global_degree
        tensor([2, 1])
    """
    edges, kind = interactions(data), interaction_type(data)
    of_user, of_item = edges.by_user(), edges.by_item()
    repeated = edges.edge_index.size(1) - of_user.col.numel()
    if repeated:
        raise ValueError(
            f"'data' must not repeat edges to sample from (got {repeated} repetitions): remove "
            "them by data.coalesce()"
        )
    graph = copy.copy(data)
    for store in (*graph.node_stores, *graph.edge_stores):
        for name in [name for name, value in store.items() if isinstance(value, (list, tuple))]:
            del store[name]
    graph[ITEM, f"rev_{kind[1]}", USER].edge_index = torch.stack([of_user.col, of_user.row])
    graph[USER][DEGREE], graph[ITEM][DEGREE] = of_user.degree, of_item.degree
    return graph
