"""Rows of a propagation against the dense polynomial: values and gradients."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional import normalized_adjacency, propagate
from pyg_kd.functional.node_order import OrderedAdjacency
from pyg_kd.functional.propagated_rows import propagated_rows
from tests.functional.propagations import dense_adjacency, graph, oracle, problems


@st.composite
def readings(draw):
    """A problem, and the rows that are read: their type and distinct ids, several times."""
    problem = draw(problems())
    rng, reads = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["user", "item"]))
        size = problem[1] if kind == "user" else problem[2]
        reads.append((kind, rng.permutation(size)[: draw(st.integers(0, size))]))
    return *problem, reads, rng


def ordered_adjacency(data: HeteroData) -> OrderedAdjacency:
    return OrderedAdjacency(dict(zip(("user", "item"), normalized_adjacency(data), strict=True)))


@given(readings(), st.integers(1, 4))
def test_values_and_gradients(problem, num_layers: int) -> None:
    edge_index, num_users, num_items, x, reads, rng = problem
    a = dense_adjacency(edge_index, num_users, num_items)
    user, item = (torch.from_numpy(part) for part in (x[:num_users], x[num_users:]))
    user, item = user.clone().requires_grad_(), item.clone().requires_grad_()
    adjacency = ordered_adjacency(graph(edge_index, num_users, num_items))
    read = propagated_rows(user, item, adjacency, num_layers)
    expected, weight = oracle(x, a, num_layers), np.zeros_like(x)
    loss = torch.zeros((), dtype=torch.double)
    for kind, ids in reads:
        first = 0 if kind == "user" else num_users
        found = read(kind, torch.from_numpy(ids))
        np.testing.assert_allclose(found.detach().numpy(), expected[first + ids], atol=1e-6)
        w = rng.standard_normal(found.shape)
        weight[first + ids] += w  # the same row may be read several times
        loss = loss + (found * torch.from_numpy(w)).sum()
    loss.backward()
    # The polynomial of a symmetric matrix is symmetric.
    gradient = torch.cat([user.grad, item.grad]).numpy()
    np.testing.assert_allclose(gradient, oracle(weight, a, num_layers), atol=1e-6)


def random_graph(num_users: int = 60, num_items: int = 40, num_edges: int = 300) -> HeteroData:
    torch.manual_seed(0)
    sizes = torch.tensor([[num_users], [num_items]])
    return graph((torch.rand(2, num_edges) * sizes).long(), num_users, num_items)


def test_the_order_changes_no_bit_of_a_row() -> None:
    """Where a layer's rows are computed, not what they are summed from and in which order."""
    data = random_graph()
    x_user, x_item = torch.randn(60, 8), torch.randn(40, 8)
    ordered = ordered_adjacency(data)
    plain = OrderedAdjacency(ordered.plain)
    plain.into = plain.within = plain.out = plain.plain
    plain.place = {"user": torch.arange(60), "item": torch.arange(40)}
    ids = torch.tensor([7, 3, 59])
    for num_layers in (1, 2, 4):
        one, other = (
            propagated_rows(x_user, x_item, a, num_layers)("user", ids) for a in (ordered, plain)
        )
        assert torch.equal(one, other)
        whole, _ = propagate(x_user, x_item, data, num_layers)
        torch.testing.assert_close(one, whole[ids])


def test_an_order_has_every_node_once() -> None:
    data = random_graph(num_edges=40)  # many nodes without edges
    ordered = ordered_adjacency(data)
    for kind, size in (("user", 60), ("item", 40)):
        assert ordered.place[kind].sort().values.tolist() == list(range(size))


def test_neighbours_come_closer() -> None:
    """Users of a line of tastes, numbered at random: each one's items lie beside each other."""
    rng = np.random.default_rng(0)
    taste, item_taste = rng.random(400), rng.random(300)
    edges = [(u, i) for u in range(400) for i in range(300) if abs(taste[u] - item_taste[i]) < 0.05]
    data = graph(torch.tensor(edges).t(), 400, 300)
    place = ordered_adjacency(data).place["item"].double()
    user, item = data["user", "interacts", "item"].edge_index

    def spread(x: Tensor) -> float:
        """The mean distance of an item from the mean of its user's items."""
        total = torch.zeros(400, dtype=x.dtype).index_add_(0, user, x[item])
        mean = total / torch.bincount(user, minlength=400)
        return float((x[item] - mean[user]).abs().mean())

    assert spread(place) < 0.3 * spread(torch.arange(300).double())


def test_backward_twice_and_of_one_kind() -> None:
    data = random_graph()
    x_user, x_item = (torch.randn(n, 3, requires_grad=True) for n in (60, 40))
    read = propagated_rows(x_user, x_item, ordered_adjacency(data), 2)
    one, other = read("user", torch.tensor([3, 8])), read("item", torch.tensor([1]))
    first = torch.autograd.grad(one.sum(), (x_user, x_item), retain_graph=True)
    both = torch.autograd.grad(one.sum() + other.sum(), (x_user, x_item), retain_graph=True)
    again = torch.autograd.grad(one.sum(), (x_user, x_item))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], both[0])
