from __future__ import annotations

import numpy as np
import pytest
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


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float32])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_take_by_a_mask(dtype, block, monkeypatch) -> None:
    monkeypatch.setattr("pyg_kd.transforms.attributes.BLOCK", block)
    x = torch.arange(21).view(3, 7).remainder(5).to(dtype)
    for share in (0.0, 0.5, 1.0):
        mask = torch.rand(7, generator=torch.Generator().manual_seed(0)) < share
        for dim in (1, -1):
            assert torch.equal(take(x, mask, dim), x[:, mask])
        assert torch.equal(take(x.t(), mask), x.t()[mask])  # neither last nor contiguous
        assert torch.equal(take(x.t().contiguous().t(), mask, 1), x[:, mask])
        assert torch.equal(take(x[1], mask), x[1][mask])
        assert take(list("abcdefg"), mask) == [c for c, m in zip("abcdefg", mask, strict=True) if m]
    assert take(x[:, :0], torch.zeros(0, dtype=torch.bool), 1).shape == (3, 0)


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
