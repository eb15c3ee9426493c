"""Graphs for models that invert a matrix of users or of items, and their interactions, dense."""

from __future__ import annotations

import numpy as np
import torch
from torch_geometric.data import HeteroData

#: Users, items: the matrix of the users is inverted in the first, that of the items in the other.
SIZES = [(9, 14), (14, 9)]


def graph(num_users: int, num_items: int) -> HeteroData:
    generator = torch.Generator().manual_seed(3)
    edges = (torch.rand(num_users, num_items, generator=generator) < 0.4).nonzero().t()
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    # One user and one item are isolated, and an edge comes twice.
    edges = edges[:, (edges[0] != 4) & (edges[1] != 6)]
    data["user", "interacts", "item"].edge_index = torch.cat([edges, edges[:, 5:6]], dim=1)
    return data


def dense(data: HeteroData) -> np.ndarray:
    X = np.zeros((data["user"].num_nodes, data["item"].num_nodes))
    user, item = data["user", "item"].edge_index
    X[user, item] = 1
    return X
