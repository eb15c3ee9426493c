from __future__ import annotations

import copy
import gc
import weakref
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import ToSparseTensor
from torch_geometric.utils import to_edge_index

from pyg_kd.functional import Neighbors, interactions, sorted_neighbors
from pyg_kd.graph import as_ids, check_ids, neighbors_of_keys

EDGES = torch.tensor([[0, 2, 2], [3, 0, 1]])


def graph(edge_index: object = EDGES, relation: str = "interacts") -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data["user", relation, "item"].edge_index = edge_index
    return data


@pytest.mark.parametrize("relation", ["interacts", "rates", "to"])
def test_edges_and_sizes(relation):
    edge_index, num_users, num_items = interactions(graph(relation=relation))
    assert edge_index is EDGES  # nothing is copied
    assert (num_users, num_items) == (3, 4)


def test_sizes_may_come_from_features():
    data = graph()
    del data["item"].num_nodes
    data["item"].x = torch.ones(6, 2)
    assert interactions(data).num_items == 6


@pytest.mark.parametrize(
    "edge_index", [EDGES.int(), EdgeIndex(EDGES, sparse_size=(3, 4), sort_order="row")]
)
def test_other_kinds_of_edges_become_plain_int64(edge_index):
    edges = interactions(graph(edge_index)).edge_index
    assert type(edges) is Tensor and edges.dtype == torch.int64
    assert torch.equal(edges, EDGES)


def test_a_graph_without_edges_passes():
    edges = interactions(graph(torch.empty(2, 0, dtype=torch.long))).edge_index
    assert edges.shape == (2, 0)


def test_only_a_hetero_data_is_a_graph():
    for other in (EDGES, Data(edge_index=EDGES), EdgeIndex(EDGES)):
        message = rf"must be a HeteroData \(got {type(other).__name__}\): .*from_interactions"
        with pytest.raises(TypeError, match=message):
            interactions(other)


def test_an_edge_type_of_the_wrong_direction():
    data = graph()
    del data["user", "interacts", "item"]
    data["item", "of", "user"].edge_index = EDGES.flip(0)
    with pytest.raises(ValueError, match=r"'of', 'user'\)\]\): .*UserItem\(\) reverses"):
        interactions(data)


@pytest.mark.filterwarnings("ignore:Unable to accurately infer")
@pytest.mark.parametrize("node_type", ["user", "item"])
def test_a_node_type_without_size(node_type):
    data = graph()
    del data[node_type].num_nodes
    data[node_type].name = "no size follows from this"
    highest = {"user": 2, "item": 3}[node_type]
    message = rf"'data\['{node_type}'\].num_nodes' is not set: .* the edges: {highest}\)"
    with pytest.raises(ValueError, match=message):
        interactions(data)


def test_a_node_type_that_only_edges_name():
    data = HeteroData()
    data["user", "to", "item"].edge_index = EDGES
    with pytest.raises(ValueError, match=r"'data\['user'\].num_nodes' is not set"):
        interactions(data)
    assert data.node_types == []  # looking adds nothing
    data["user"].num_nodes = data["item"].num_nodes = 1
    data["user", "to", "item"].edge_index = EDGES[:, :0]
    assert interactions(data).num_items == 1


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((0, 1), 3, r"'edge_index\[0\] \(users\)' must lie in 0\.\.2 \(got 3\)"),
        ((0, 1), -1, r"'edge_index\[0\] \(users\)' must lie in 0\.\.2 \(got -1\)"),
        ((1, 2), 4, r"'edge_index\[1\] \(items\)' must lie in 0\.\.3 \(got 4\)"),
        ((1, 0), -5, r"'edge_index\[1\] \(items\)' must lie in 0\.\.3 \(got -5\)"),
    ],
)
def test_ids_out_of_range(place, value, message):
    edge_index = EDGES.clone()
    edge_index[place] = value
    with pytest.raises(ValueError, match=message):
        interactions(graph(edge_index))


def test_edges_that_are_no_edges():
    with pytest.raises(ValueError, match=r"'edge_index' must have shape \[2, E\] \(got \[3, 2\]\)"):
        interactions(graph(EDGES.t()))
    with pytest.raises(ValueError, match=r"\(got \[2\]\)"):
        interactions(graph(EDGES[:, 0]))
    with pytest.raises(TypeError, match=r"'edge_index' must be int64 \(got torch.float32\)"):
        interactions(graph(EDGES.float()))
    data = graph()
    del data["user", "interacts", "item"].edge_index
    data["user", "interacts", "item"].time = torch.ones(3)
    with pytest.raises(TypeError, match=r"'edge_index' must be a tensor \(got NoneType\)"):
        interactions(data)


def test_edges_in_a_sparse_tensor_alone():
    data = ToSparseTensor(layout=torch.sparse_csr)(graph())
    kind = ("user", "interacts", "item")
    with pytest.raises(
        ValueError, match=r"must have an 'edge_index' \(got 'adj_t' alone\): .*flip"
    ):
        interactions(data)
    data[kind].edge_index = to_edge_index(data[kind].adj_t)[0].flip(0)  # as the message says
    for found, expected in zip(
        interactions(data).by_user(), interactions(graph()).by_user(), strict=True
    ):
        assert torch.equal(found, expected)


def test_pairs_beyond_64_bits():
    data = graph()
    data["user"].num_nodes, data["item"].num_nodes = 2**31 - 1, 2**32 - 2
    assert interactions(data)[1:] == (2**31 - 1, 2**32 - 2)
    data["item"].num_nodes = 2**32
    with pytest.raises(ValueError, match=r"2\*\*63 pairs .*2147483647 users and 4294967296 items"):
        interactions(data)


def test_check_ids():
    check_ids("ids", torch.tensor([0, 4]), 5)
    check_ids("ids", torch.empty(0, dtype=torch.long), 0)
    check_ids("ids", torch.empty(3, dtype=torch.long, device="meta"), 1)
    with pytest.raises(ValueError, match=r"'ids' must lie in 0\.\.4 \(got 5\)"):
        check_ids("ids", torch.tensor([0, 5]), 5)


@st.composite
def edge_lists(draw):
    num_rows, num_cols = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_edges = draw(st.integers(0, 30))
    row, col = (rng.integers(0, n, num_edges) for n in (num_rows, num_cols))
    return row, col, num_rows, num_cols


@given(edge_lists())
def test_neighbors_are_sorted_and_unique(problem):
    row, col, num_rows, num_cols = problem
    neighbors = sorted_neighbors(torch.from_numpy(row), torch.from_numpy(col), num_rows, num_cols)
    expected = [
        sorted({int(c) for r, c in zip(row, col, strict=True) if r == n}) for n in range(num_rows)
    ]
    assert neighbors.ptr.dtype == neighbors.col.dtype == torch.int64
    found = [neighbors.col[a:b].tolist() for a, b in neighbors.ptr.unfold(0, 2, 1).tolist()]
    assert found == expected
    assert neighbors.degree.tolist() == [len(e) for e in expected]


@given(edge_lists(), st.lists(st.integers(0, 5), max_size=8))
def test_edges_of_rows(problem, rows):
    row, col, num_rows, num_cols = problem
    rows = [r % num_rows for r in rows]  # repeated, in any order, some without a neighbour
    neighbors = sorted_neighbors(torch.from_numpy(row), torch.from_numpy(col), num_rows, num_cols)
    place, neighbor = neighbors.of(torch.tensor(rows, dtype=torch.long))
    expected = [
        (position, int(c)) for position, r in enumerate(rows) for c in np.unique(col[row == r])
    ]
    assert list(zip(place.tolist(), neighbor.tolist(), strict=True)) == expected


def test_keys_beyond_32_bits():
    row, col = torch.tensor([99_999, 99_999, 0]), torch.tensor([99_998, 5, 99_999])
    neighbors = sorted_neighbors(row, col, 100_000, 100_000)
    assert neighbors.of(torch.tensor([99_999]))[1].tolist() == [5, 99_998]
    assert neighbors.of(torch.tensor([0, 1]))[1].tolist() == [99_999]


def test_neighbors_is_a_plain_pair():
    ptr, col = Neighbors(torch.tensor([0, 1]), torch.tensor([7]))
    assert ptr.tolist() == [0, 1] and col.tolist() == [7]


def test_edges_are_sorted_once_for_all_copies_of_a_graph():
    data = graph(torch.tensor([[2, 0, 2], [1, 3, 0]]))
    first = interactions(data)
    assert first.by_user() is first.by_user()
    other = interactions(copy.copy(data))
    assert other.by_user() is first.by_user() and other.by_item() is first.by_item()
    assert first.cached("answer", lambda edges: [edges.num_items]) == [4]
    assert other.cached("answer", lambda edges: [0]) == [4]


def test_a_change_of_the_edges_is_noticed():
    data = graph(torch.tensor([[2, 0], [1, 3]]))
    assert interactions(data).by_user().col.tolist() == [3, 1]
    data["user", "item"].edge_index[1, 0] = 2  # in place
    assert interactions(data).by_user().col.tolist() == [3, 2]
    data["user", "item"].edge_index[1, 0] = 4
    with pytest.raises(ValueError, match=r"must lie in 0\.\.3 \(got 4\)"):
        interactions(data)
    data["user", "item"].edge_index = torch.tensor([[1], [1]])
    assert interactions(data).by_user().col.tolist() == [1]


def test_other_sizes_of_the_same_edges_are_read_anew():
    data = graph(torch.tensor([[2, 0], [1, 3]]))
    assert len(interactions(data).by_user().ptr) == 4
    data["user"].num_nodes = 5
    assert len(interactions(data).by_user().ptr) == 6
    data["item"].num_nodes = 3
    with pytest.raises(ValueError, match=r"must lie in 0\.\.2 \(got 3\)"):
        interactions(data)


@pytest.mark.parametrize("kind", ["plain", "int32", "EdgeIndex"])
def test_what_was_made_goes_with_the_edges(kind):
    edge_index = torch.tensor([[2, 0], [1, 3]])
    if kind == "int32":
        edge_index = edge_index.int()
    elif kind == "EdgeIndex":
        edge_index = EdgeIndex(edge_index, sparse_size=(3, 4))
    data = graph(edge_index)
    assert interactions(data).by_user() is interactions(data).by_user()
    made = weakref.ref(interactions(data).by_item().col)
    del data, edge_index
    gc.collect()
    assert made() is None


def test_edges_made_in_inference_mode_are_read():
    with torch.inference_mode():
        data = graph(torch.tensor([[2, 0], [1, 3]]))
    assert interactions(data).by_item().col.tolist() == [2, 0]


def test_edges_made_in_inference_mode_may_change():
    with torch.inference_mode():
        data = graph(torch.tensor([[2, 0], [1, 3]]))
        assert interactions(data).by_user().col.tolist() == [3, 1]
        data["user", "interacts", "item"].edge_index[1, 0] = 2
        assert interactions(data).by_user().col.tolist() == [3, 2]
        data["user", "interacts", "item"].edge_index[1, 0] = 4
        with pytest.raises(ValueError, match=r"must lie in 0..3 \(got 4\)"):
            interactions(data)


def test_a_wrapped_tensor_may_change():
    raw = torch.tensor([[0, 1, 2], [0, 1, 3]])
    data = graph(EdgeIndex(raw, sparse_size=(3, 4)))
    edge_index = data["user", "interacts", "item"].edge_index
    for changed, item in ((edge_index, 1), (raw, 2), (edge_index.as_tensor(), 3)):
        assert interactions(data).by_user().col.tolist() == edge_index.tolist()[1]
        changed[1, 0] = item
        assert interactions(data).by_user().col.tolist() == [item, 1, 3]


@given(
    st.lists(st.integers(0, 11), max_size=20).map(sorted),
    st.lists(st.integers(0, 11), max_size=20).map(sorted),
)
def test_ascending_sequences_are_merged(first, second):
    key = torch.tensor(first + second, dtype=torch.long)
    merged = neighbors_of_keys(key, 3, 4, merge=True)
    rows = [sorted({k % 4 for k in first + second if k // 4 == row}) for row in range(3)]
    assert [merged.col[a:b].tolist() for a, b in pairwise(merged.ptr.tolist())] == rows


def test_sorting_leaves_the_edges_alone():
    edge_index = torch.tensor([[2, 0, 2, 2], [1, 3, 0, 1]])
    before = edge_index.clone()
    edges = interactions(graph(edge_index))
    assert edges.by_user().col.tolist() == [3, 0, 1] and edges.by_item().col.tolist() == [2, 2, 0]
    assert torch.equal(edge_index, before)


@pytest.mark.parametrize(
    "ids",
    [
        np.array([3, 1, 0])[::-1],
        np.array([0, 1, 3], dtype=np.uint64),
        pd.Series([9, 0, 1, 3])[1:],
        range(0, 4),
        [np.int64(0), torch.tensor(1), 3],
    ],
)
def test_ids_as_users_hold_them(ids: object) -> None:
    found = as_ids("users", ids, 4, torch.device("cpu"))
    assert found.tolist() == np.asarray(ids).tolist() and found.dtype == torch.int64


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (2, ValueError, r"'users' must be one-dimensional \(got shape \[\]\)"),
        ([[0], [1, 2]], TypeError, r"'users' must be integers"),
        ({0, 2}, TypeError, r"'users' must be integers"),
        (np.array([2**64 - 1], dtype=np.uint64), ValueError, r"'users' must lie in 0..3"),
    ],
)
def test_what_are_no_ids(ids: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_ids("users", ids, 4, torch.device("cpu"))


@pytest.mark.parametrize("size", [3.7, 3.0, "3", -1, float("nan"), [3], torch.tensor(3.5)])
def test_a_number_of_nodes_is_an_integer(size):
    data = graph()
    data["user"].num_nodes = size
    with pytest.raises(ValueError, match=r"'data\['user'\].num_nodes' must be an integer of 0"):
        interactions(data)


@pytest.mark.parametrize("size", [np.int32(3), torch.tensor(3)])
def test_a_number_of_nodes_of_another_library(size):
    data = graph()
    data["user"].num_nodes = size
    assert interactions(data).num_users == 3
