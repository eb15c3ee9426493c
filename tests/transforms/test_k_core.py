from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd.datasets import from_interactions
from pyg_kd.transforms import KCore
from pyg_kd.typing import INTERACTS, ITEM, USER

EDGES = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=45)


def _core(edges: set[tuple[int, int]], k_user: int, k_item: int) -> set[tuple[int, int]]:
    """Remove one offender at a time."""
    edges = set(edges)
    while True:
        for row, k in ((0, k_user), (1, k_item)):
            ids = [edge[row] for edge in edges]
            bad = next((node for node in ids if ids.count(node) < k), None)
            if bad is not None:
                edges = {edge for edge in edges if edge[row] != bad}
                break
        else:
            return edges


def _graph(edges: set[tuple[int, int]]) -> HeteroData:
    data = HeteroData()
    data[USER].num_nodes = data[ITEM].num_nodes = 8
    data[USER].x = torch.arange(8.0).view(8, 1)
    data[ITEM].title = [f"t{i}" for i in range(8)]
    index = torch.tensor(sorted(edges)).t()
    data[INTERACTS].edge_index = index
    data[INTERACTS].time = index[0] * 10 + index[1]
    return data


@given(EDGES, st.integers(1, 3), st.integers(1, 3))
def test_same_core_as_removal_one_by_one(
    edges: set[tuple[int, int]], k_user: int, k_item: int
) -> None:
    expected = _core(edges, k_user, k_item)
    data = _graph(edges)
    transform = KCore(k_user=k_user, k_item=k_item)
    if not expected:
        with pytest.raises(ValueError, match=rf"core for KCore\(k_user={k_user}, .* \(got none\)"):
            transform(data)
        return
    out = transform(data)
    users, items = out[USER].raw_id, out[ITEM].raw_id
    assert users.tolist() == sorted({u for u, _ in expected})
    assert items.tolist() == sorted({i for _, i in expected})
    index = out[INTERACTS].edge_index
    raw = torch.stack([users[index[0]], items[index[1]]])
    assert list(map(tuple, raw.t().tolist())) == sorted(expected)
    assert out[INTERACTS].time.tolist() == (raw[0] * 10 + raw[1]).tolist()
    assert out[USER].x.flatten().tolist() == users.tolist()
    assert out[ITEM].title == [f"t{i}" for i in items.tolist()]
    assert (out[USER].num_nodes, out[ITEM].num_nodes) == (len(users), len(items))
    # The input is as it was.
    assert data[INTERACTS].edge_index.size(1) == len(edges)
    assert data[USER].x.size(0) == data[USER].num_nodes == 8
    assert "raw_id" not in data[USER]


def test_raw_ids_are_carried_on() -> None:
    data = from_interactions([["a", "b", "b", "c", "c"], [7, 7, 8, 7, 8]])
    out = KCore(2)(data)
    assert out[USER].raw_id == ["b", "c"]
    assert out[ITEM].raw_id.tolist() == [7, 8]
    assert KCore(2)(out)[USER].raw_id == ["b", "c"]


def test_targets_of_removed_nodes_are_dropped() -> None:
    data = from_interactions([[0, 1, 1, 2, 2, 0], [0, 1, 2, 1, 2, 3]])
    data[INTERACTS].edge_label_index = torch.tensor([[0, 1, 2, 2], [1, 0, 2, 1]])
    data[INTERACTS].edge_label = torch.tensor([5, 6, 7, 8])
    out = KCore(2)(data)[INTERACTS]
    assert out.edge_index.tolist() == [[0, 0, 1, 1], [0, 1, 0, 1]]
    assert out.edge_label_index.tolist() == [[1, 1], [1, 0]]
    assert out.edge_label.tolist() == [7, 8]
    data[INTERACTS].edge_label_index[0, 0] = 9
    with pytest.raises(ValueError, match=r"'edge_label_index\[0\] \(users\)' must lie in 0..2"):
        KCore(2)(data)


def test_repeated_edges_do_not_count_twice() -> None:
    data = _graph({(0, 0), (1, 1)})
    data[INTERACTS].edge_index = torch.tensor([[0, 0], [0, 0]])
    with pytest.raises(ValueError, match=r"must have no repeated edges \(got 1\)"):
        KCore(2)(data)


@pytest.mark.parametrize("name", ["k", "k_user", "k_item"])
def test_numbers_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' must be at least 1 \(got 0\)"):
        KCore(**{name: 0})


def test_repr() -> None:
    assert repr(KCore()) == "KCore(k_user=5, k_item=5)"
    assert repr(KCore(3, k_item=1)) == "KCore(k_user=3, k_item=1)"
