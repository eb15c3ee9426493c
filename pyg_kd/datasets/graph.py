"""From columns of ids to the user-item graph."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import check_sizes
from pyg_kd.typing import INTERACTS, ITEM, USER


def interaction_graph(
    user: Tensor, item: Tensor, num_users: int, num_items: int, time: Tensor | None = None
) -> HeteroData:
    r"""Build the graph of a list of interactions.

    Args:
        user: User of each interaction, int64 ``[N]``.
        item: Item of each interaction, int64 ``[N]``.
        num_users: Number of users.
        num_items: Number of items.
        time: Time of each interaction ``[N]``.

    Returns:
        A graph whose edges are sorted by user, then item. Repeated
        interactions are one edge, and its ``time`` is the latest.

    Raises:
        ValueError: If there are too many pairs of a user and an item for int64.
    """
    key = edge_keys(user, item, num_users, num_items)
    if time is None:
        return graph_from_keys(key.unique(), num_users, num_items)
    # Sorted by time within a key, so the last of each run is the latest.
    order = time.argsort(stable=True)
    order = order[key[order].argsort(stable=True)]
    key = key[order]
    last = torch.ones_like(key, dtype=torch.bool)
    last[:-1] = key[1:] != key[:-1]
    data = graph_from_keys(key[last], num_users, num_items)
    data[INTERACTS].time = time[order][last]
    return data


def edge_keys(user: Tensor, item: Tensor, num_users: int, num_items: int) -> Tensor:
    """The key ``user * num_items + item`` of each edge, int64."""
    check_sizes(num_users, num_items)
    return user * num_items + item


def graph_from_keys(key: Tensor, num_users: int, num_items: int) -> HeteroData:
    """The graph whose edges have the ascending keys ``user * num_items + item``."""
    data = HeteroData()
    data[USER].num_nodes = num_users
    data[ITEM].num_nodes = num_items
    data[INTERACTS].edge_index = edges_of_keys(key, num_items)
    return data


def edges_of_keys(key: Tensor, num_items: int) -> Tensor:
    """The edges int64 ``[2, E]`` of the keys ``user * num_items + item``."""
    return torch.stack([key.div(num_items, rounding_mode="floor"), key.remainder(num_items)])


def edges_digest(edge_index: Tensor) -> str:
    """SHA-256 of edges in their order, which tells a graph whatever file it was read from."""
    return hashlib.sha256(edge_index.numpy().astype("<i8").tobytes()).hexdigest()
