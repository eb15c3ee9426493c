"""Small graphs, and the dense polynomial that a propagation equals."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData


def graph(edge_index: Tensor, num_users: int, num_items: int) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data["user", "interacts", "item"].edge_index = edge_index
    return data


def dense_adjacency(edge_index: Tensor, num_users: int, num_items: int) -> np.ndarray:
    """D^-1/2 A D^-1/2 over users and items together, entry by entry."""
    a = np.zeros((num_users + num_items, num_users + num_items))
    for u, i in edge_index.t().tolist():
        a[u, num_users + i] = a[num_users + i, u] = 1
    degree = a.sum(1)
    for r in range(len(a)):
        for c in range(len(a)):
            if a[r, c]:
                a[r, c] /= np.sqrt(degree[r] * degree[c])
    return a


@st.composite
def problems(draw):
    """The edges and sizes of a graph, and embeddings of its users and then its items."""
    num_users, num_items = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_edges = draw(st.integers(0, 30))
    edges = np.stack([rng.integers(0, n, num_edges) for n in (num_users, num_items)])
    x = rng.standard_normal((num_users + num_items, draw(st.integers(1, 4))))
    return torch.from_numpy(edges), num_users, num_items, x


def oracle(x: np.ndarray, a: np.ndarray, num_layers: int) -> np.ndarray:
    return sum(np.linalg.matrix_power(a, n) @ x for n in range(num_layers + 1)) / (num_layers + 1)
