from __future__ import annotations

import numpy as np
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from pyg_kd.transforms.attributes import edge_attributes, of_targets, take


def test_take() -> None:
    index = torch.tensor([2, 0])
    assert take(torch.arange(6).view(2, 3), index, 1).tolist() == [[2, 0], [5, 3]]
    assert take(np.arange(3), index).tolist() == [2, 0]
    assert take(["a", "b", "c"], index) == ["c", "a"]
    assert take([[1], [2], [3]], index) == [[3], [1]]
    edges = EdgeIndex([[0, 1, 1], [2, 0, 1]], sparse_size=(2, 3), sort_order="row")
    chosen = take(edges, index, 1)
    assert type(chosen) is torch.Tensor and chosen.tolist() == [[1, 0], [1, 2]]


def test_attributes_of_edges_are_told_from_those_of_targets():
    data = HeteroData()
    store = data["user", "to", "item"]
    store.edge_index = torch.tensor([[0, 1, 1], [2, 0, 1]])
    store.time, store.edge_attr, store.tags = torch.arange(3), torch.ones(3, 2), ["a", "b", "c"]
    store.edge_label_index, store.edge_label = torch.zeros(2, 3, dtype=torch.long), torch.ones(3)
    store.note, store.scale = "of all edges", torch.tensor(2.0)
    found = edge_attributes(data, store, torch.tensor([2]))
    assert found.keys() == {"edge_index", "time", "edge_attr", "tags"}
    assert found["edge_index"].tolist() == [[1], [1]] and found["tags"] == ["c"]
    assert found["time"].tolist() == [2] and found["edge_attr"].shape == (1, 2)
    assert [key for key in store if of_targets(key)] == ["edge_label_index", "edge_label"]
