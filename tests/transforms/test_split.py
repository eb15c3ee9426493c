from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kd.datasets import from_interactions
from pyg_kd.transforms import LeaveOneOut, TemporalSplit, UserSplit
from pyg_kd.transforms.split import TEST, TRAIN, VAL, checked_edges, held_out
from pyg_kd.typing import INTERACTS, ITEM, USER

SPLITS = [UserSplit(0.2, 0.2), LeaveOneOut(), LeaveOneOut(by_time=True), TemporalSplit(0.2, 0.2)]


def _graph(own_targets: bool = False, num_users: int = 20, num_items: int = 15) -> HeteroData:
    """A random graph with attributes of every kind, edges in random order."""
    rng = np.random.default_rng(0)
    cells = rng.permutation(num_users * num_items)
    edges = np.stack([cells[:110] // num_items, cells[:110] % num_items])
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes = num_users, num_items
    data[USER].x = torch.randn(num_users, 3)
    data[ITEM].name = [f"item {i}" for i in range(num_items)]
    store = data[INTERACTS]
    store.edge_index = torch.from_numpy(edges)
    store.time = torch.from_numpy(rng.integers(0, 60, 110))
    store.edge_attr = torch.from_numpy(cells[:110, None]).float()
    store.note = "kept"
    if own_targets:
        own = cells[110:150]
        store.edge_label_index = torch.from_numpy(np.stack([own // num_items, own % num_items]))
        store.edge_label = torch.from_numpy(own)
    return data


def _split(split: BaseTransform, data: HeteroData) -> tuple[HeteroData, HeteroData, HeteroData]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return split(data)


def _edges(index: torch.Tensor) -> set[tuple[int, int]]:
    edges = list(map(tuple, index.t().tolist()))
    assert len(edges) == len(set(edges))
    return set(edges)


@pytest.mark.parametrize("own_targets", [False, True])
@pytest.mark.parametrize("split", SPLITS, ids=repr)
def test_messages_and_targets(split: BaseTransform, own_targets: bool) -> None:
    data = _graph(own_targets)
    before = {key: value for key, value in data[INTERACTS].items()}
    train, val, test = (graph[INTERACTS] for graph in _split(split, data))
    known = _edges(data[INTERACTS].edge_index)

    trained, validated = _edges(train.edge_index), _edges(val.edge_label_index)
    tested = _edges(test.edge_label_index)
    assert trained
    assert validated
    assert tested
    assert _edges(val.edge_index) == trained
    assert _edges(test.edge_index) == trained | validated
    assert not trained & validated
    assert not tested & (trained | validated)
    assert trained | validated <= known
    users = {user for user, _ in trained}
    assert {user for user, _ in validated} <= users
    assert not [key for key in train if key.startswith("edge_label")]
    if own_targets:
        everyone = _edges(data[INTERACTS].edge_label_index)
        assert tested == {edge for edge in everyone if edge[0] in users}
        cells = [user * 15 + item for user, item in test.edge_label_index.t().tolist()]
        assert test.edge_label.tolist() == cells
    else:
        assert {user for user, _ in tested} <= users
        assert tested <= known
        if not isinstance(split, TemporalSplit):
            assert trained | validated | tested == known
            assert users == {user for user, _ in known}
    # The input is as it was.
    assert all(data[INTERACTS][key] is value for key, value in before.items())
    assert len(data[INTERACTS]) == len(before)


@pytest.mark.parametrize("split", SPLITS, ids=repr)
def test_attributes_follow(split: BaseTransform) -> None:
    data = _graph()
    time = {
        tuple(edge): when
        for edge, when in zip(
            data[INTERACTS].edge_index.t().tolist(), data[INTERACTS].time.tolist(), strict=True
        )
    }
    train, val, test = _split(split, data)
    for graph in (train, val, test):
        assert graph[USER].x is data[USER].x
        assert graph[ITEM].name == data[ITEM].name
        assert (graph[USER].num_nodes, graph[ITEM].num_nodes) == (20, 15)
        store = graph[INTERACTS]
        assert store.note == "kept"
        edges = store.edge_index.t().tolist()
        assert store.time.tolist() == [time[tuple(edge)] for edge in edges]
        assert store.edge_attr.flatten().tolist() == [user * 15 + item for user, item in edges]
    for graph in (val, test):
        targets = graph[INTERACTS].edge_label_index.t().tolist()
        assert graph[INTERACTS].edge_label_time.tolist() == [time[tuple(edge)] for edge in targets]


@pytest.mark.parametrize("split", SPLITS, ids=repr)
def test_edge_index_class_is_read_and_plain_tensors_are_written(split: BaseTransform) -> None:
    plain = _graph()
    data = copy.copy(plain)
    data[INTERACTS].edge_index = EdgeIndex(plain[INTERACTS].edge_index, sparse_size=(20, 15))
    for graph, expected in zip(_split(split, data), _split(split, plain), strict=True):
        for key in {"edge_index", "edge_label_index"} & set(expected[INTERACTS].keys()):
            assert type(graph[INTERACTS][key]) is torch.Tensor
            assert torch.equal(graph[INTERACTS][key], expected[INTERACTS][key])


@pytest.mark.parametrize("split", SPLITS, ids=repr)
def test_global_random_state_is_neither_used_nor_changed(split: BaseTransform) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    data = _graph()
    torch.set_rng_state(state)
    first = _split(split, data)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(9)
    for one, other in zip(first, _split(split, data), strict=True):
        assert torch.equal(one[INTERACTS].edge_index, other[INTERACTS].edge_index)


@pytest.mark.parametrize("split", [UserSplit, LeaveOneOut])
def test_seed_matters(split: type[BaseTransform]) -> None:
    data = _graph()
    one, other = (_split(split(seed=seed), data)[0][INTERACTS].edge_index for seed in (0, 1))
    assert _edges(one) != _edges(other)


@pytest.mark.parametrize("split", SPLITS, ids=repr)
def test_bad_graphs(split: BaseTransform) -> None:
    data = from_interactions([[0, 1], [0, 1]], time=[1, 2])
    with pytest.raises(TypeError, match="'data' must be a HeteroData"):
        split(data.to_homogeneous())
    data[INTERACTS].edge_index = torch.tensor([[0, 0], [1, 1]])
    with pytest.raises(ValueError, match=r"must have no repeated edges \(got 1\)"):
        split(data)
    data[INTERACTS].edge_index = torch.tensor([[0, 0], [1, 2]])
    with pytest.raises(ValueError, match=r"'edge_index\[1\] \(items\)' must lie in 0..1 \(got 2\)"):
        split(data)
    data[INTERACTS].edge_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match=r"'data' must have edges to split \(got none\)"):
        split(data)


@pytest.mark.parametrize("split", [LeaveOneOut(by_time=True), TemporalSplit()], ids=repr)
@pytest.mark.parametrize(
    ("time", "message"),
    [
        (None, "'data' must have the edge attribute 'time'"),
        (torch.zeros(3), r"'time' must have the shape \[2\] \(got \[3\]\)"),
        (torch.tensor([1.0, float("nan")]), "'time' must be finite"),
    ],
)
def test_bad_times(split: BaseTransform, time: torch.Tensor | None, message: str) -> None:
    data = from_interactions([[0, 1], [0, 1]])
    if time is not None:
        data[INTERACTS].time = time
    with pytest.raises(ValueError, match=message):
        split(data)


@pytest.mark.parametrize("split", [UserSplit, TemporalSplit])
@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"val": -0.1}, r"'val' must lie in 0..1, 1 excluded \(got -0.1\)"),
        ({"test": 1.0}, r"'test' must lie in 0..1, 1 excluded \(got 1.0\)"),
        ({"val": 0.5, "test": 0.5}, r"'val' \+ 'test' must be less than 1 \(got 0.5 \+ 0.5\)"),
    ],
)
def test_bad_fractions(
    split: type[BaseTransform], fractions: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        split(**fractions)


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("numpy", [False, True])
def test_held_out(timed: bool, numpy: bool, monkeypatch) -> None:
    monkeypatch.setattr("pyg_kd.transforms.split.on_numpy", lambda x: numpy)
    user = torch.tensor([3, 0, 3, 0, 3, 1, 3, 3])
    time = torch.tensor([5, 1, 9, 2, 7, 0, 8, 1])
    num_val, num_test = torch.tensor([1, 0, 0, 2, 0]), torch.tensor([1, 1, 0, 2, 0])
    part = held_out(user, num_val, num_test, seed=0, time=time if timed else None)
    for u in range(5):
        mine = part[user == u].tolist()
        assert mine.count(VAL) == num_val[u] and mine.count(TEST) == num_test[u]
    if timed:
        assert part.tolist() == [VAL, VAL, TEST, TEST, VAL, TEST, TEST, TRAIN]


def test_held_out_edges_are_uniform_and_the_same_on_every_path(monkeypatch) -> None:
    user = torch.arange(4_000) // 4
    one = torch.ones(1_000, dtype=torch.long)
    part = held_out(user, one, one, seed=0)
    for number in (VAL, TEST):
        share = (part.view(1_000, 4) == number).float().mean(dim=0)
        assert (share - 0.25).abs().max() < 0.05
    monkeypatch.setattr("pyg_kd.transforms.split.on_numpy", lambda x: False)
    assert torch.equal(held_out(user, one, one, seed=0), part)


@pytest.mark.parametrize("enough", [1, 2, 50])
@pytest.mark.parametrize("seed", range(3))
def test_the_first_edges_of_a_user_in_the_order_are_held_out(enough, seed, monkeypatch) -> None:
    monkeypatch.setattr("pyg_kd.transforms.split.ENOUGH", enough)
    draw = torch.Generator().manual_seed(seed)
    user = torch.randint(20, (300,), generator=draw) * torch.randint(2, (300,), generator=draw)
    degree = torch.bincount(user, minlength=21)
    num_test = (degree * 0.2).ceil().long()
    num_val = (degree * 0.1).long()
    expected = [TRAIN] * 300
    seen = [0] * 21
    for edge in torch.randperm(300, generator=torch.Generator().manual_seed(seed)).tolist():
        u = int(user[edge])
        if seen[u] < num_test[u]:
            expected[edge] = TEST
        elif seen[u] < num_test[u] + num_val[u]:
            expected[edge] = VAL
        seen[u] += 1
    assert held_out(user, num_val, num_test, seed).tolist() == expected


@pytest.mark.parametrize("block", [1, 2, 100])
def test_repeated_edges_are_counted_in_any_order(block, monkeypatch) -> None:
    monkeypatch.setattr("pyg_kd.transforms.split.BLOCK", block)
    pairs = [(0, 1), (0, 4), (1, 0), (2, 0), (2, 3)]
    for edges, repeated in (
        (pairs, 0),
        (pairs[::-1], 0),
        (sorted([*pairs, (2, 0)]), 1),
        ([*pairs, (0, 1), (2, 3)], 2),
    ):
        data = HeteroData()
        data[USER].num_nodes, data[ITEM].num_nodes = 3, 5
        data[INTERACTS].edge_index = torch.tensor(edges).t()
        if repeated:
            with pytest.raises(ValueError, match=rf"got {repeated}\)"):
                checked_edges(data)
        else:
            checked_edges(data)


def test_a_user_without_edges_holds_out_none() -> None:
    none = torch.tensor([0, -1])  # as degrees minus one come
    assert held_out(torch.tensor([0, 0]), none, torch.tensor([1, -1]), seed=0).sum() == TEST
