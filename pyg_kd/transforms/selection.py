"""Some nodes of a graph, numbered anew, and some of its edges."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import check_ids
from pyg_kd.transforms.split import take
from pyg_kd.typing import ITEM, USER


def select_(data: HeteroData, edges: Tensor, kept: dict[str, Tensor]) -> HeteroData:
    r"""Keep some edges and nodes of a user-item graph, in place; what belongs to them follows.

    Nodes are numbered in their old order, and ``raw_id`` tells who they were. Targets in
    ``edge_label_index`` go with their nodes. The contents of other attributes stay.

    Args:
        data: The graph.
        edges: The edges to keep, int64 ``[n]``, between nodes that are kept.
        kept: By node type, the nodes to keep, int64, ascending; of other types all.
    """
    sizes = {kind: int(data[kind].num_nodes) for kind in kept}
    number = {kind: _inverse(kept[kind], size) for kind, size in sizes.items()}
    _select_edges(data, edges, number)
    for kind, index in kept.items():
        _select_nodes(data, kind, index)
    return data


def _select_edges(data: HeteroData, edges: Tensor, number: dict[str, Tensor]) -> None:
    store = data.edge_stores[0]
    sides = [(row, number[kind]) for row, kind in enumerate((USER, ITEM)) if kind in number]
    targets = edges[:0]
    if "edge_label_index" in store:
        label = store.edge_label_index
        alive = label.new_ones(label.size(1)) > 0
        for row, new in sides:
            check_ids(f"edge_label_index[{row}] ({(USER, ITEM)[row]}s)", label[row], new.numel())
            alive &= new[label[row]] >= 0
        targets = alive.nonzero().view(-1)
    chosen = {}
    for key, value in store.items():
        dim = data.__cat_dim__(key, value, store)
        if key.startswith("edge_label"):
            chosen[key] = take(value, targets, dim)
        elif store.is_edge_attr(key):
            chosen[key] = take(value, edges, dim)
    for key, value in chosen.items():
        if key in ("edge_index", "edge_label_index"):
            for row, new in sides:
                value[row] = new[value[row]]  # `take` has made a copy
        store[key] = value


def _inverse(kept: Tensor, size: int) -> Tensor:
    """The new number of each old one, -1 if it is gone."""
    number = kept.new_full((size,), -1)
    number[kept] = kept.new_ones(kept.numel()).cumsum(0) - 1
    return number


def _select_nodes(data: HeteroData, kind: str, kept: Tensor) -> None:
    store = data[kind]
    chosen = {
        key: take(value, kept, data.__cat_dim__(key, value, store))
        for key, value in store.items()
        if key != "num_nodes" and store.is_node_attr(key)
    }
    store.update(chosen)
    store.num_nodes = kept.numel()
    if "raw_id" not in store:
        store.raw_id = kept
