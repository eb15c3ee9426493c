from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch_geometric.loader
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData
from torch_geometric.sampler import NegativeSampling

from pyg_kd.datasets import SyntheticInteractions, from_interactions
from pyg_kd.functional.neighbor_sampling import sample_neighborhood, sample_neighbors
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.loader import (
    LinkNeighborLoader,
    NeighborLoader,
    NeighborSampler,
    sampling_graph,
    triples,
)
from pyg_kd.models import MF

FORTH, BACK = ("user", "interacts", "item"), ("item", "rev_interacts", "user")


@pytest.fixture(scope="module")
def data() -> HeteroData:
    data = SyntheticInteractions(num_users=30, num_items=20, num_edges=150)[0]
    shuffled = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    for name in ("edge_index", "time"):
        data[FORTH][name] = data[FORTH][name][..., shuffled]
    return data


def neighbours(data: HeteroData) -> dict[str, dict[int, set[int]]]:
    """The neighbours of every node, in plain Python."""
    found = {"user": {n: set() for n in range(30)}, "item": {n: set() for n in range(20)}}
    for user, item in data[FORTH].edge_index.t().tolist():
        found["user"][user].add(item)
        found["item"][item].add(user)
    return found


@given(st.data())
def test_draws_are_distinct_neighbours(choice) -> None:
    degrees = choice.draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    num = choice.draw(st.sampled_from([-1, 1, 2, 5]))
    rows = choice.draw(st.lists(st.integers(0, len(degrees) - 1), max_size=8))
    ptr = torch.tensor([0, *np.cumsum(degrees)])
    near = Neighbors(ptr, torch.arange(sum(degrees)) * 10)
    row, entry = sample_neighbors(near, torch.tensor(rows, dtype=torch.long), num)
    assert bool((row.diff() >= 0).all())
    for place, node in enumerate(rows):
        drawn = entry[row == place].tolist()
        wanted = degrees[node] if num == -1 else min(num, degrees[node])
        assert len(drawn) == len(set(drawn)) == wanted
        assert set(drawn) <= set(range(int(ptr[node]), int(ptr[node + 1])))


def test_every_set_of_neighbours_is_equally_likely() -> None:
    near = Neighbors(torch.tensor([0, 5]), torch.arange(5))
    _, entry = sample_neighbors(near, torch.zeros(20_000, dtype=torch.long), 2)
    pairs = entry.view(-1, 2).sort(1).values
    count = torch.bincount(pairs[:, 0] * 5 + pairs[:, 1], minlength=25)
    count = count[count > 0].double()
    assert len(count) == math.comb(5, 2)
    statistic = float(((count - 2000) ** 2 / 2000).sum())
    assert statistic < 27.9  # chi square of nine degrees of freedom, one in a thousand


def test_the_hops_of_a_neighbourhood(data: HeteroData) -> None:
    """Every node is expanded once, in the hop after it came, and all that is new comes along."""
    near, edges = neighbours(data), interactions(data)
    by_type = {"user": edges.by_user(), "item": edges.by_item()}
    seeds = {"user": torch.tensor([4, 2]), "item": torch.tensor([7])}
    found = sample_neighborhood(by_type, seeds, [2, -1])
    drawn: dict[str, dict[int, list[int]]] = {"user": {}, "item": {}}
    for kind, other in (("user", "item"), ("item", "user")):
        sent = found.edges[kind]
        assert torch.equal(by_type[kind].col[sent.entry], found.nodes[other][sent.col])
        for row, col in zip(sent.row.tolist(), sent.col.tolist(), strict=True):
            node = int(found.nodes[kind][row])
            drawn[kind].setdefault(node, []).append(int(found.nodes[other][col]))
    known = {kind: ids.tolist() for kind, ids in seeds.items()}
    last = {kind: list(ids) for kind, ids in known.items()}
    for num in (2, -1):
        new: dict[str, set[int]] = {"user": set(), "item": set()}
        for kind, other in (("user", "item"), ("item", "user")):
            for node in last[kind]:
                sample = drawn[kind].pop(node)
                wanted = len(near[kind][node]) if num == -1 else min(2, len(near[kind][node]))
                assert len(sample) == len(set(sample)) == wanted
                assert set(sample) <= near[kind][node]
                new[other] |= set(sample) - set(known[other])
        last = {kind: sorted(ids) for kind, ids in new.items()}
        known = {kind: ids + last[kind] for kind, ids in known.items()}
    assert drawn == {"user": {}, "item": {}}
    assert {kind: ids.tolist() for kind, ids in found.nodes.items()} == known
    assert found.num_nodes["user"][0] == 2 and sum(found.num_nodes["item"]) == len(known["item"])


def test_no_seeds_of_a_type(data: HeteroData) -> None:
    edges = interactions(data)
    by_type = {"user": edges.by_user(), "item": edges.by_item()}
    found = sample_neighborhood(by_type, {"item": torch.tensor([3])}, [-1])
    assert found.num_nodes["user"][0] == 0 and found.num_edges["user"] == [0]
    assert set(found.nodes["user"].tolist()) == neighbours(data)["item"][3]


def test_the_attributes_are_those_of_pyg(data: HeteroData) -> None:
    """PyG's own link loader, over this package's sampler, gives the same batches."""
    torch.manual_seed(5)
    graph = sampling_graph(extract_knowledge(MF(data, 4), data, num_items=5, progress=False))
    options = {"batch_size": 16, "neg_sampling": "triplet"}
    torch.manual_seed(1)
    ours = next(iter(LinkNeighborLoader(graph, [3, 2], **options)))
    torch.manual_seed(1)
    sampler = NeighborSampler(graph, [3, 2])
    theirs = next(
        iter(
            torch_geometric.loader.LinkNeighborLoader(
                graph, [3, 2], (FORTH, None), neighbor_sampler=sampler, **options
            )
        )
    )
    for one, other in zip(ours.stores, theirs.stores, strict=True):
        assert list(one.keys()) == list(other.keys())
        for name, value in one.items():
            same = torch.equal(value, other[name]) if torch.is_tensor(value) else None
            assert same is True or (same is None and value == other[name])
    assert {"n_id", "num_sampled_nodes", "global_degree", "teacher_items"} <= set(
        ours["user"].keys()
    )
    assert {"e_id", "input_id", "num_sampled_edges", "time"} <= set(ours[FORTH].keys())
    # Knowledge and attributes of edges are those of the global ids.
    for kind in ("user", "item"):
        ids = ours[kind].n_id
        assert torch.equal(ours[kind].teacher_x, graph[kind].teacher_x[ids])
        assert torch.equal(ours[kind].global_degree, graph[kind].global_degree[ids])
    for kind in (FORTH, BACK):
        source, target = ours[kind].edge_index
        ends = [ours[kind[0]].n_id[source], ours[kind[2]].n_id[target]]
        assert torch.equal(torch.stack(ends), graph[kind].edge_index[:, ours[kind].e_id])
    assert torch.equal(ours[FORTH].time, data[FORTH].time[ours[FORTH].e_id])
    batch = triples(ours)
    pairs = data[FORTH].edge_index[:, ours[FORTH].input_id]
    assert torch.equal(ours["user"].n_id[batch.user], pairs[0])
    assert torch.equal(ours["item"].n_id[batch.positive], pairs[1])


def test_an_epoch_visits_every_interaction_once(data: HeteroData) -> None:
    loader = LinkNeighborLoader(data, [2, 2], batch_size=32, shuffle=True)
    pairs = []
    for batch in loader:
        found = triples(batch)
        assert found.negative.shape == (len(found), 0)
        pairs.append(
            torch.stack([batch["user"].n_id[found.user], batch["item"].n_id[found.positive]])
        )
    visited = torch.cat(pairs, 1)
    assert sorted(visited.t().tolist()) == sorted(data[FORTH].edge_index.t().tolist())


def bits(data: HeteroData, seed: int, **options) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    loader = LinkNeighborLoader(
        data, [2, 2], batch_size=40, shuffle=True, generator=generator, **options
    )
    return [torch.cat([b["user"].n_id, b["item"].n_id, b[BACK].e_id]) for b in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_same_bits(data: HeteroData, workers: int) -> None:
    one, other = (bits(data, 3, num_workers=workers) for _ in range(2))
    assert len(one) == 4 and all(map(torch.equal, one, other))
    assert not all(map(torch.equal, one, bits(data, 4, num_workers=workers)))


def test_several_negatives_and_nodes(data: HeteroData) -> None:
    options = {"batch_size": 8, "neg_sampling": NegativeSampling("triplet", 3)}
    batch = next(iter(LinkNeighborLoader(data, [2], **options)))
    assert triples(batch).negative.shape == (8, 3)
    batch = next(iter(NeighborLoader(data, [2], ("item", torch.tensor([5, 1])), batch_size=2)))
    assert batch["item"].n_id[:2].tolist() == [5, 1]
    with pytest.raises(ValueError, match="batch of a link loader"):
        triples(batch)
    batch = next(iter(LinkNeighborLoader(data, [2], batch_size=8, neg_sampling="binary")))
    with pytest.raises(ValueError, match="must have triples"):
        triples(batch)


def test_errors(data: HeteroData) -> None:
    for bad in ([], [0], [2, -2], [1.5], "22", 3, [True]):
        with pytest.raises(ValueError, match="'num_neighbors' must be a list of positive integers"):
            NeighborLoader(data, bad, "user")
    with pytest.raises(ValueError, match=r"sample from \(got \[\]\).*sampling_graph"):
        NeighborSampler(data, [2])
    with pytest.raises(ValueError, match=r"must not repeat edges.*got 1 repetitions"):
        twice = from_interactions([[0, 1], [1, 0]])
        twice[FORTH].edge_index = torch.tensor([[0, 0, 1], [1, 1, 0]])
        sampling_graph(twice)
    with pytest.raises(ValueError, match="input nodes of 'user' must be distinct"):
        next(iter(NeighborLoader(data, [2], ("user", [3, 3]), batch_size=2)))
    with pytest.raises(ValueError, match=r"'input nodes of user' must lie in 0\.\.29"):
        next(iter(NeighborLoader(data, [2], ("user", [30]), batch_size=2)))


def test_the_graph_is_left_alone(data: HeteroData) -> None:
    graph = sampling_graph(data)
    assert data.edge_types == [FORTH] and "global_degree" not in data["user"]
    assert torch.equal(graph[FORTH].edge_index, data[FORTH].edge_index)
    back = graph[BACK].edge_index.flip(0)
    assert sorted(back.t().tolist()) == sorted(data[FORTH].edge_index.t().tolist())
    count = {kind: [len(v) for v in near.values()] for kind, near in neighbours(data).items()}
    assert {kind: graph[kind].global_degree.tolist() for kind in count} == count


def test_lists_are_left_to_the_graph() -> None:
    table = {"user": ["ann", "bob", "bob", "eve"], "item": ["x", "x", "y", "z"]}
    data = from_interactions(table)
    data["item"].title = ["X", "Y", "Z"]
    data["item"].year = torch.tensor([1990, 1991, 1992])
    batch = next(iter(LinkNeighborLoader(data, [2, 2], batch_size=4, neg_sampling="triplet")))
    assert batch["item"].year.tolist() == [1990 + i for i in batch["item"].n_id.tolist()]
    assert "title" not in batch["item"] and data["item"].title == ["X", "Y", "Z"]
    batch = next(iter(NeighborLoader(data, [2], input_nodes=("user", torch.tensor([2])))))
    assert data["user"].raw_id[int(batch["user"].n_id[0])] == "eve"
