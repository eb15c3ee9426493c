"""Models on sampled subgraphs, against the dense polynomial and the whole graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd.datasets import SyntheticInteractions, from_interactions
from pyg_kd.functional.neighbor_sampling import sample_neighborhood
from pyg_kd.functional.subgraph import subgraph_of
from pyg_kd.graph import interactions
from pyg_kd.loader import LinkNeighborLoader, NeighborLoader
from pyg_kd.models import MF, NGCF, LightGCN, QuantizationAware

DIM = 3


def graph() -> HeteroData:
    data = SyntheticInteractions(num_users=24, num_items=15, num_edges=90, seed=1)[0]
    data = from_interactions(data["user", "item"].edge_index)
    # User 24 and item 15 have no edges.
    data["user"].num_nodes, data["item"].num_nodes = 25, 16
    return data


def dense(data: HeteroData) -> np.ndarray:
    """The normalised adjacency of users and items together, entry by entry."""
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    a = np.zeros((num_users + num_items, num_users + num_items))
    for user, item in data["user", "item"].edge_index.t().tolist():
        a[user, num_users + item] = a[num_users + item, user] = 1.0
    degree = np.maximum(a.sum(1), 1)
    return a / np.sqrt(degree[:, None] * degree[None])


def one_batch(data: HeteroData, users, items, num_neighbors) -> HeteroData:
    """The subgraph around all pairs of some users and items."""
    pairs = torch.cartesian_prod(torch.tensor(users), torch.tensor(items)).t().contiguous()
    return next(iter(LinkNeighborLoader(data, num_neighbors, pairs, batch_size=pairs.size(1))))


def seeds(batch: HeteroData, kind: str) -> int:
    return int(batch[kind].num_sampled_nodes[0])


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_all_neighbours_give_the_whole_graphs_rows_and_gradients(num_layers: int) -> None:
    """Against the polynomial of the dense matrix, in float64."""
    data, a = graph(), dense(graph())
    model = LightGCN(data, DIM, num_layers).double()
    batch = one_batch(data, [3, 24, 7], [0, 15, 2], [-1] * num_layers)
    x_dict = model(batch)
    tables = [model.user_embedding, model.item_embedding]
    x = np.concatenate([t.detach().numpy() for t in tables])
    polynomial = sum(np.linalg.matrix_power(a, n) for n in range(num_layers + 1)) / (num_layers + 1)
    ids = np.concatenate([
        batch["user"].n_id[: seeds(batch, "user")].numpy(),
        25 + batch["item"].n_id[: seeds(batch, "item")].numpy(),
    ])  # fmt: skip
    assert set(ids.tolist()) == {3, 7, 24, 25, 27, 40}
    found = torch.cat([x_dict[kind][: seeds(batch, kind)] for kind in ("user", "item")])
    # Degrees are rooted in single precision.
    np.testing.assert_allclose(found.detach().numpy(), (polynomial @ x)[ids], rtol=0, atol=1e-7)
    weight = torch.randn(found.shape, dtype=torch.float64)
    (found * weight).sum().backward()
    expected = polynomial[ids].T @ weight.numpy()
    gradient = np.concatenate([t.grad.numpy() for t in tables])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)


MODELS = {
    "mf": lambda data: MF(data, DIM, init_std=1.0),
    "lightgcn": lambda data: LightGCN(data, DIM, 2),
    "unit": lambda data: LightGCN(data, DIM, 2, normalize=True, popularity=0.3),
    "ngcf": lambda data: NGCF(data, DIM, 2, dropout=0.0, init_std=1.0),
    "ngcf_unit": lambda data: NGCF(data, DIM, 3, dropout=0.0, normalize=True, init_std=1.0),
    "rounded": lambda data: QuantizationAware(data, DIM, LightGCN),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("hops", [3, 5])
def test_all_neighbours_equal_the_whole_graph(name: str, hops: int) -> None:
    data = graph()
    model = MODELS[name](data).double()
    batch = one_batch(data, [3, 24, 7], [0, 15, 2], [-1] * hops)
    whole, found = model(data), model(batch)
    gradients = []
    weight = {kind: torch.randn_like(x) for kind, x in whole.items()}
    for x_dict, local in ((whole, False), (found, True)):
        total = 0.0
        for kind, x in x_dict.items():
            num = seeds(batch, kind)
            ids = batch[kind].n_id[:num]
            rows = x[:num] if local else x[ids]
            torch.testing.assert_close(rows, whole[kind][ids], rtol=1e-6, atol=1e-6)
            total = total + (rows * weight[kind][ids]).sum()
        gradients.append(torch.autograd.grad(total, list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    for kind, x in found.items():
        assert bool(x[seeds(batch, kind) :].isnan().all())
        assert len(x) == batch[kind].num_nodes


def exact_and_mean(num_layers: int, draws: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """User 3 and item 0 on the whole graph, and the mean and its error over sampled subgraphs."""
    data = graph()
    model = LightGCN(data, DIM, num_layers, init_std=1.0).double()
    edges, seed = interactions(data), {"user": torch.tensor([3]), "item": torch.tensor([0])}
    neighbors, found = {"user": edges.by_user(), "item": edges.by_item()}, []
    with torch.no_grad():
        for _ in range(draws):
            drawn = sample_neighborhood(neighbors, seed, [2] * num_layers)
            x_dict = model.represent_seeds(subgraph_of(drawn, neighbors))
            found.append(torch.stack([x_dict["user"][0], x_dict["item"][0]]))
        whole = model(data)
    values = torch.stack(found)
    error = values.std(0) / draws**0.5
    return torch.stack([whole["user"][3], whole["item"][0]]), values.mean(0), error


def test_two_layers_are_unbiased() -> None:
    exact, mean, error = exact_and_mean(2, 250)
    assert bool((error > 0).all())
    assert bool(((mean - exact).abs() < 4 * error).all())


def test_three_layers_are_not() -> None:
    """Users 0 and 1 share item 0, and user 0 has item 1 besides; one neighbour is drawn each."""
    data = from_interactions([[0, 1, 0], [0, 0, 1]])
    model = LightGCN(data, 1, 3).double()
    with torch.no_grad():
        model.user_embedding[:] = torch.tensor([[0.0], [1.0]])
        model.item_embedding.zero_()
        whole = float(model(data)["item"][0])
        # Paths from item 0 to user 1: at once, and by way of either user and item 0 again.
        assert whole == pytest.approx((1 + 1 / 4 + 1 / 2) / 2**0.5 / 4)
        drawn = []
        for seed in range(40):
            torch.manual_seed(seed)
            drawn.append(round(float(model(one_batch(data, [0], [0], [1, 1, 1]))["item"][0]), 5))
    # The item draws user 1 in half of the cases, twice its message: sqrt(2). Then the path that
    # returns meets user 1 again, with 2 / sqrt(2), and the detour by user 0 is never seen.
    assert set(drawn) == {0.0, round(2 * 2**0.5 / 4, 5)}
    assert 1.1 * whole < 2 * 2**0.5 / 4 / 2


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 4), min_size=2, max_size=3))
def test_sampled_products_equal_those_of_the_messages(seed: int, fan_outs: list[int]) -> None:
    """Layer by layer over the edges of the batch, in plain Python."""
    data = graph()
    model = LightGCN(data, 1, 2).double()
    torch.manual_seed(seed)
    batch = one_batch(data, [3, 24], [0, 5], fan_outs)
    degree = {kind: batch[kind].global_degree.tolist() for kind in ("user", "item")}
    x = {
        kind: table.detach()[batch[kind].n_id].flatten().tolist()
        for kind, table in (("user", model.user_embedding), ("item", model.item_embedding))
    }
    sent = {
        "item": batch["user", "interacts", "item"].edge_index.t().tolist(),
        "user": batch["item", "rev_interacts", "user"].edge_index.t().tolist(),
    }
    total, layer = {kind: list(v) for kind, v in x.items()}, x
    for _ in range(2):
        following = {kind: [0.0] * len(v) for kind, v in x.items()}
        for kind, other in (("user", "item"), ("item", "user")):
            count = np.bincount([row for _, row in sent[kind]], minlength=len(x[kind]))
            for col, row in sent[kind]:
                weight = (degree[kind][row] * degree[other][col]) ** -0.5
                following[kind][row] += weight * degree[kind][row] / count[row] * layer[other][col]
        layer = following
        for kind, values in total.items():
            total[kind] = [a + b for a, b in zip(values, layer[kind], strict=True)]
    found = model(batch)
    for kind, values in total.items():
        num = seeds(batch, kind)
        expected = torch.tensor(values[:num], dtype=torch.float64) / 3
        torch.testing.assert_close(found[kind][:num, 0], expected, rtol=1e-6, atol=1e-7)


def broken(change) -> HeteroData:
    batch = one_batch(graph(), [3, 7], [0, 2], [2, 2])
    change(batch)
    return batch


def _drop(kind: str, name: str):
    def change(batch: HeteroData) -> None:
        del batch[kind][name]

    return change


def _set(kind: str, name: str, make):
    def change(batch: HeteroData) -> None:
        batch[kind][name] = make(batch[kind])

    return change


def _without_reverse(batch: HeteroData) -> None:
    del batch["item", "rev_interacts", "user"]


BROKEN = {
    "no n_id": (_drop("item", "n_id"), r"'data\['item'\]\.n_id' is missing"),
    "too short": (
        _set("user", "n_id", lambda s: s.n_id[:-1]),
        r"'data\['user'\]\.n_id' must be int64 of shape \[\d+\].*got torch.int64 of shape",
    ),
    "floating": (_set("user", "n_id", lambda s: s.n_id.float()), r"n_id' must be int64"),
    "repeated": (_set("user", "n_id", lambda s: s.n_id * 0), r"must not repeat an id \(got 0"),
    "out of range": (
        _set("item", "n_id", lambda s: s.n_id + 16),
        r"'data\['item'\]\.n_id' must lie in 0\.\.15",
    ),
    "negative": (_set("item", "n_id", lambda s: s.n_id - 16), r"n_id' must lie in 0\.\.15"),
    "no hops": (_drop("user", "num_sampled_nodes"), r"num_sampled_nodes' is missing"),
    "other hops": (
        _set("user", "num_sampled_nodes", lambda s: [1, 1, 1]),
        r"num_sampled_nodes' must add up to the \d+ nodes \(got \[1, 1, 1\]\)",
    ),
    "no degrees": (_drop("user", "global_degree"), r"global_degree' is missing"),
    "wrong degrees": (
        _set("item", "global_degree", lambda s: s.global_degree * 0),
        r"edges in the subgraph and 0 in the whole graph",
    ),
    "one direction": (_without_reverse, r"one edge type from 'item' to 'user' \(got \[\]\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("model_cls", [MF, LightGCN, NGCF])
def test_a_wrong_subgraph_is_refused(name: str, model_cls) -> None:
    change, message = BROKEN[name]
    with pytest.raises(ValueError, match=message):
        model_cls(graph(), DIM)(broken(change))


def test_local_ids_are_never_taken_for_global_ones() -> None:
    """A batch of all nodes in another order, without a word of it, is no graph either."""
    data = graph()
    batch = one_batch(data, list(range(24, -1, -1)), list(range(16)), [-1, -1])
    for kind in ("user", "item"):
        for name in ("n_id", "num_sampled_nodes"):
            del batch[kind][name]
    with pytest.raises(ValueError, match="none back"):
        LightGCN(data, DIM)(batch)


@pytest.mark.parametrize("model_cls", [LightGCN, NGCF])
def test_too_few_hops(model_cls) -> None:
    data = graph()
    message = "the model has 2 layers, but 'num_neighbors' drew neighbours for 1 hops"
    with pytest.raises(ValueError, match=message):
        model_cls(data, DIM, 2)(one_batch(data, [3], [0], [-1]))


def test_a_node_loader_represents_its_nodes() -> None:
    data = graph()
    model, whole = LightGCN(data, DIM), []
    for batch in NeighborLoader(data, [-1, -1], "user", batch_size=7):
        whole.append(model(batch)["user"][: batch["user"].batch_size])
    torch.testing.assert_close(torch.cat(whole), model(data)["user"])
