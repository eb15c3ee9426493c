"""A part of a graph: some of its nodes, renumbered, and some of its edges."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_kd.edge_types import interaction_type
from pyg_kd.graph import as_edges, check_ids
from pyg_kd.transforms.attributes import edge_attributes, numbers, of_targets, take
from pyg_kd.transforms.relations import edges_of

#: Of the ends of an edge type: its row in ``edge_index``, its node type, and the new numbers.
Sides = list[tuple[int, str, Tensor]]


def select_(data: HeteroData, edges: Tensor, kept: dict[str, Tensor]) -> HeteroData:
    r"""Keep some interactions and nodes of a user-item graph, in place, with their attributes.

    Nodes are renumbered in their old order, and ``raw_id`` holds their old ids. Targets in
    ``edge_label_index`` and edges of other types go when one of their nodes goes. Ids inside
    other attributes are not renumbered.

    Args:
        data: The graph.
        edges: The interactions to keep, int64 ``[n]``, between nodes that are kept.
        kept: By node type, the nodes to keep, int64, ascending; other types keep all.
    """
    sizes = {kind: int(data[kind].num_nodes) for kind in kept}
    number = {kind: _inverse(kept[kind], size) for kind, size in sizes.items()}
    chosen = interaction_type(data)
    for edge_type in data.edge_types:
        ends = ((0, edge_type[0]), (1, edge_type[2]))
        sides = [(row, kind, number[kind]) for row, kind in ends if kind in number]
        if sides:
            index, name = edges_of(data, edge_type), f"edge_index of {edge_type}"
            alive = edges if edge_type == chosen else _alive(index, sides, name)
            _select_edges(data, edge_type, alive, sides)
    for kind, index in kept.items():
        _select_nodes(data, kind, index)
    return data


def _select_edges(data: HeteroData, edge_type: EdgeType, edges: Tensor, sides: Sides) -> None:
    store = data[edge_type]
    targets = edges[:0]
    if "edge_label_index" in store:
        targets = _alive(as_edges(store.edge_label_index), sides, "edge_label_index")
    chosen = edge_attributes(data, store, edges)
    for key in filter(of_targets, store.keys()):
        value = store[key]
        chosen[key] = take(value, targets, data.__cat_dim__(key, value, store))
    for key in chosen.keys() & {"edge_index", "edge_label_index"}:
        for row, _, new in sides:
            chosen[key][row] = new[chosen[key][row]]  # `take` has made a copy
    store.update(chosen)


def _alive(index: Tensor, sides: Sides, name: str) -> Tensor:
    """The positions of the edges whose ends are all kept, int64, ascending."""
    alive = index.new_ones(index.size(1)) > 0
    for row, kind, new in sides:
        check_ids(f"{name}[{row}] ({kind}s)", index[row], new.numel())
        alive &= new[index[row]] >= 0
    return numbers(alive)


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
