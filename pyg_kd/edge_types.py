"""Which edge type of a graph the interactions are."""

from __future__ import annotations

from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_kd.typing import ITEM, USER


def interaction_type(data: HeteroData) -> EdgeType:
    r"""Return the edge type of the interactions: the one from ``user`` to ``item``.

    Where several lead from user to item, ``data.interaction_relation`` names the relation.
    Edges from item to user are refused: the targets of a split would remain in them.

    Raises:
        TypeError: If ``data`` is not a ``HeteroData``.
        ValueError: If there is no such edge type, or it is ambiguous.

    Example:
        >>> import torch
        >>> data = HeteroData()
        >>> data["user"].num_nodes = data["item"].num_nodes = 2
        >>> data["user", "buys", "item"].edge_index = torch.tensor([[0], [1]])
        >>> data["item", "near", "item"].edge_index = torch.tensor([[0], [1]])
        >>> interaction_type(data)
        ('user', 'buys', 'item')
    """
    if not isinstance(data, HeteroData):
        raise TypeError(
            f"'data' must be a HeteroData (got {type(data).__name__}): make one of the edges "
            "from users to items by pyg_kd.datasets.from_interactions(edge_index)"
        )
    if not {USER, ITEM} <= all_node_types(data):
        raise ValueError(
            f"'data' must have the node types 'user' and 'item' (got {sorted(data.node_types)}): "
            f"use {user_item_call(data)}"
        )
    forward, backward = types_between(data, USER, ITEM), types_between(data, ITEM, USER)
    if not forward:
        raise ValueError(
            f"'data' must have one edge type from 'user' to 'item' (got {data.edge_types})"
            + (": pyg_kd.transforms.UserItem() reverses edges from item to user" * bool(backward))
        )
    if backward:
        raise ValueError(
            "'data' must have one edge type from 'user' to 'item' and none back, where targets "
            f"would remain after a split (got {backward}): pyg_kd.transforms.UserItem() drops "
            "reverse edges, and models make them by edge_index.flip(0)"
        )
    relation = data.interaction_relation if "interaction_relation" in data else None
    chosen = [e for e in forward if relation is None or e[1] == relation]
    if len(chosen) != 1:
        named = "" if relation is None else f", 'interaction_relation' is {relation!r}"
        raise ValueError(
            f"'data' must have one edge type from 'user' to 'item' (got {forward}{named}): choose "
            f"one by pyg_kd.transforms.UserItem(edge={forward[0]})"
        )
    return chosen[0]


def all_node_types(data: HeteroData) -> set[str]:
    """The node types of a graph, including those that appear in edge types only."""
    return {*data.node_types, *(end for kind in data.edge_types for end in (kind[0], kind[2]))}


def types_between(data: HeteroData, source: str, target: str) -> list[EdgeType]:
    """The edge types that lead from one node type to another."""
    return [kind for kind in data.edge_types if (kind[0], kind[2]) == (source, target)]


def user_item_call(data: HeteroData) -> str:
    """The call of ``UserItem`` that suits a graph, as far as its types tell."""
    pairs = [(s, t) for s, name, t in data.edge_types if s != t and not name.startswith("rev_")]
    for kind in (USER, ITEM):
        if any(kind in pair for pair in pairs):
            pairs = [pair for pair in pairs if kind in pair]
    call = "pyg_kd.transforms.UserItem"
    if len({frozenset(pair) for pair in pairs}) != 1:
        return f"{call}(user=..., item=...) with two of its node types"
    user, item = pairs[0][::-1] if pairs[0][0] == ITEM or pairs[0][1] == USER else pairs[0]
    named = [f"{kind}={name!r}" for kind, name in ((USER, user), (ITEM, item)) if name != kind]
    return f"{call}({', '.join(named)})"
