from __future__ import annotations

import re

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.edge_types import interaction_type
from pyg_kd.graph import interactions

EDGES = torch.tensor([[0, 2, 2], [3, 0, 1]])


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data["user", "interacts", "item"].edge_index = EDGES
    return data


OTHER = [
    ("user", "knows", "user"),
    ("item", "near", "item"),
    ("item", "in", "tag"),
    ("tag", "rev_in", "item"),
    ("user", "follows", "tag"),
]


def test_other_node_and_edge_types_are_not_looked_at():
    data = HeteroData()
    data["tag"].num_nodes = 2
    for kind in OTHER:
        data[kind].edge_index = torch.zeros(2, 1, dtype=torch.long)
    data.update(graph())
    assert interactions(data).edge_index is EDGES
    assert interaction_type(data) == ("user", "interacts", "item")


def test_edges_back_are_refused():
    data = graph()
    data["item", "rev_interacts", "user"].edge_index = EDGES.flip(0)
    with pytest.raises(ValueError, match=r"one edge type.*rev_interacts.*UserItem\(\) drops"):
        interactions(data)


def test_several_relations_from_user_to_item():
    data = graph()
    data["user", "views", "item"].edge_index = EDGES[:, :1]
    message = r"one edge type .*views.*UserItem\(edge=\('user', 'interacts', 'item'\)\)"
    with pytest.raises(ValueError, match=message):
        interactions(data)
    data.interaction_relation = "views"
    assert interaction_type(data) == ("user", "views", "item")
    assert interactions(data).edge_index.tolist() == [[0], [3]]
    data.interaction_relation = "buys"
    with pytest.raises(ValueError, match=r"'interaction_relation' is 'buys'"):
        interactions(data)


@pytest.mark.parametrize(
    ("edge_types", "call"),
    [
        ([("customer", "buys", "product")], "UserItem(user='customer', item='product')"),
        ([("user", "rates", "movie")], "UserItem(item='movie')"),
        ([("movie", "rev_rates", "user"), ("user", "rates", "movie")], "UserItem(item='movie')"),
        ([("book", "rated_by", "user")], "UserItem(item='book')"),
        ([("item", "of", "buyer")], "UserItem(user='buyer')"),
        ([("user", "buys", "good"), ("good", "in", "shop")], "UserItem(item='good')"),
        ([("a", "x", "b"), ("b", "x", "c")], "UserItem(user=..., item=...)"),
        ([], "UserItem(user=..., item=...)"),
    ],
)
def test_other_node_types_get_the_transform_named(edge_types, call):
    data = HeteroData()
    for kind in edge_types:
        data[kind[0]].num_nodes = data[kind[2]].num_nodes = 4
        data[kind].edge_index = EDGES
    kinds = sorted(data.node_types)
    with pytest.raises(ValueError, match=re.escape(f"(got {kinds}): use pyg_kd.transforms.{call}")):
        interactions(data)
