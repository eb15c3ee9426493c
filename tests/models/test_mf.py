from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from pyg_kd.models import MF


def graph(edge_index: list[list[int]]) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data["user", "interacts", "item"].edge_index = torch.tensor(edge_index)
    return data


def test_representations_are_the_tables_whatever_the_edges():
    model = MF(graph([[0, 1], [2, 3]]), 5)
    for edges in ([[0, 1], [2, 3]], [[2], [0]]):
        x_dict = model(graph(edges))
        assert x_dict["user"] is model.user_embedding
        assert x_dict["item"] is model.item_embedding


def test_gradient_reaches_the_tables():
    model = MF(graph([[0, 1], [2, 3]]), 5)
    x_dict = model(graph([[0, 1], [2, 3]]))
    model.score(x_dict, torch.tensor([[0], [2]])).sum().backward()
    assert torch.equal(model.user_embedding.grad[0], model.item_embedding[2].detach())
    assert model.user_embedding.grad[1:].eq(0).all()


def test_name_and_loss():
    assert repr(MF(graph([[0], [0]]), 5)) == "MF(3, 4, dim=5)"
    assert MF.default_loss == "bpr"
