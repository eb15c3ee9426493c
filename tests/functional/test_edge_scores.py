from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import EdgeIndex

from pyg_kd.functional import edge_scores, list_scores


def one_by_one(x_user: Tensor, x_item: Tensor, edge_index: Tensor) -> np.ndarray:
    """Edge by edge, in float64."""
    users, items = x_user.detach().double().numpy(), x_item.detach().double().numpy()
    pairs = zip(*edge_index.tolist(), strict=True)
    return np.array([sum(users[u] * items[i]) for u, i in pairs], dtype=np.float64)


def tables(num_users: int, num_items: int, dim: int, dtype=torch.double) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_users * 100 + num_items)
    shape = (num_users + num_items, dim)
    x = torch.randn(shape, dtype=torch.double, generator=generator).to(dtype)
    x_user, x_item = x.split([num_users, num_items])
    return x_user.clone().requires_grad_(), x_item.clone().requires_grad_()


def edges(num_users: int, num_items: int, num_edges: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    user, item = (rng.integers(0, n, num_edges) for n in (num_users, num_items))
    return torch.from_numpy(np.stack([user, item]))


@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 40), st.integers(0, 9)
)
def test_value_and_gradient_of_any_edges(num_users, num_items, dim, num_edges, seed):
    x_user, x_item = tables(num_users, num_items, dim)
    edge_index = edges(num_users, num_items, num_edges, seed)
    scores = edge_scores(x_user, x_item, edge_index)
    expected = one_by_one(x_user, x_item, edge_index)
    np.testing.assert_allclose(scores.detach().numpy(), expected, atol=1e-12)

    weight = torch.linspace(-1, 2, num_edges, dtype=torch.double)
    actual = torch.autograd.grad((scores * weight).sum(), (x_user, x_item))
    naive = (x_user[edge_index[0]] * x_item[edge_index[1]]).sum(1)
    reference = torch.autograd.grad((naive * weight).sum(), (x_user, x_item))
    for a, b in zip(actual, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sort", [False, True])
def test_gradcheck(sort):
    edge_index = edges(4, 5, 30)
    if sort:
        edge_index = edge_index[:, edge_index[0].sort(stable=True).indices]
    assert len({tuple(e) for e in edge_index.t().tolist()}) < 30  # some edges repeat
    assert torch.autograd.gradcheck(lambda u, i: edge_scores(u, i, edge_index), tables(4, 5, 3))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("sort", [False, True])
def test_precisions(dtype, tolerance, sort):
    x_user, x_item = tables(7, 9, 8, dtype)
    edge_index = edges(7, 9, 50)
    if sort:
        edge_index = edge_index[:, edge_index[0].sort(stable=True).indices]
    scores = edge_scores(x_user, x_item, edge_index)
    assert scores.dtype == dtype
    expected = one_by_one(x_user, x_item, edge_index)
    np.testing.assert_allclose(
        scores.detach().double().numpy(), expected, rtol=tolerance, atol=tolerance
    )
    gradients = torch.autograd.grad(scores.sum(), (x_user, x_item))
    users, items = x_user.detach().double().numpy(), x_item.detach().double().numpy()
    expected_user, expected_item = np.zeros_like(users), np.zeros_like(items)
    for u, i in edge_index.t().tolist():
        expected_user[u] += items[i]
        expected_item[i] += users[u]
    for actual, want in zip(gradients, (expected_user, expected_item), strict=True):
        assert actual.dtype == dtype
        np.testing.assert_allclose(
            actual.double().numpy(), want, rtol=tolerance, atol=10 * tolerance
        )


def test_only_the_side_that_asks_gets_a_gradient():
    x_user, x_item = tables(4, 5, 3)
    edge_index = edges(4, 5, 12)
    both = torch.autograd.grad(edge_scores(x_user, x_item, edge_index).sum(), (x_user, x_item))
    (user,) = torch.autograd.grad(edge_scores(x_user, x_item.detach(), edge_index).sum(), x_user)
    (item,) = torch.autograd.grad(edge_scores(x_user.detach(), x_item, edge_index).sum(), x_item)
    assert torch.equal(user, both[0]) and torch.equal(item, both[1])
    assert not edge_scores(x_user.detach(), x_item.detach(), edge_index).requires_grad


@pytest.mark.parametrize("sort_order", [None, "row", "col"])
def test_an_edge_index_object_is_read(sort_order):
    x_user, x_item = tables(4, 5, 3)
    edge_index = edges(4, 5, 12)
    if sort_order:
        by = edge_index[0 if sort_order == "row" else 1]
        edge_index = edge_index[:, by.sort(stable=True).indices]
    typed = EdgeIndex(edge_index, sparse_size=(4, 5), sort_order=sort_order)
    scores = edge_scores(x_user, x_item, typed)
    assert type(scores) is Tensor
    np.testing.assert_allclose(scores.detach(), one_by_one(x_user, x_item, edge_index), atol=1e-12)
    scores.sum().backward()
    assert x_user.grad is not None and type(x_item.grad) is Tensor


def test_no_edges():
    x_user, x_item = tables(4, 5, 3)
    scores = edge_scores(x_user, x_item, torch.empty(2, 0, dtype=torch.long))
    assert scores.shape == (0,)
    scores.sum().backward()
    assert x_user.grad.eq(0).all() and x_item.grad.eq(0).all()


@pytest.mark.parametrize(
    ("user", "item", "edge", "message"),
    [
        ((2, 3), (2, 4), (2, 1), r"one width \(got \[2, 3\] and \[2, 4\]\)"),
        ((6,), (2, 3), (2, 1), r"matrices .*\(got \[6\] and \[2, 3\]\)"),
        ((2, 3), (2, 3), (3, 1), r"'edge_index' must have shape \[2, E\] \(got \[3, 1\]\)"),
        ((2, 3), (2, 3), (2,), r"'edge_index' must have shape \[2, E\] \(got \[2\]\)"),
    ],
)
def test_shapes_that_do_not_fit(user, item, edge, message):
    with pytest.raises(ValueError, match=message):
        edge_scores(torch.ones(user), torch.ones(item), torch.zeros(edge, dtype=torch.long))


@st.composite
def lists(draw):
    shape = draw(st.integers(0, 5)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items = rng.integers(0, 5, shape)
    items[rng.random(shape) < draw(st.sampled_from([0.0, 0.4, 1.0]))] = -1
    return torch.from_numpy(items), draw(st.sampled_from([torch.int64, torch.int32]))


@given(lists())
def test_lists_with_padding(problem):
    items, dtype = problem
    x_user, x_item = tables(max(items.size(0), 1), 5, 3)
    x_user = x_user[: items.size(0)]
    scores = list_scores(x_user, x_item, items.to(dtype))
    expected = np.full(items.shape, -np.inf)
    for row, column in (items >= 0).nonzero().tolist():
        expected[row, column] = (x_user[row] * x_item[items[row, column]]).sum().item()
    np.testing.assert_allclose(scores.detach().numpy(), expected, atol=1e-12)

    # A loss that looks at the real places only gives the gradient of those alone.
    place = items >= 0
    weight = torch.linspace(1, 2, items.numel(), dtype=torch.double).view(items.shape)
    loss = torch.where(place, scores * weight, 0.0).sum()
    actual = torch.autograd.grad(loss, (x_user, x_item))
    naive = torch.einsum("bd,bkd->bk", x_user, x_item[items.clamp(min=0)])
    reference = torch.autograd.grad((naive * weight * place).sum(), (x_user, x_item))
    for a, b in zip(actual, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_gradcheck_of_lists():
    items = torch.tensor([[0, 3, 3], [4, 0, 1], [2, 2, 0], [1, 4, 4]])
    assert torch.autograd.gradcheck(lambda u, i: list_scores(u, i, items), tables(4, 5, 3))


def test_gradient_through_padding_is_zero_and_finite():
    x_user, x_item = tables(2, 3, 4, torch.float)
    scores = list_scores(x_user, x_item, torch.tensor([[-1, -1], [1, -1]]))
    scores.exp().sum().backward()
    assert x_user.grad[0].eq(0).all() and x_item.grad[[0, 2]].eq(0).all()
    assert x_user.grad[1].ne(0).all() and x_item.grad[1].ne(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lists_keep_the_precision(dtype):
    x_user, x_item = tables(2, 3, 4, dtype)
    scores = list_scores(x_user, x_item, torch.tensor([[0, 2], [1, -1]]))
    assert scores.dtype == dtype
    expected = one_by_one(x_user, x_item, torch.tensor([[0, 0, 1], [0, 2, 1]]))
    actual = scores.detach().double().flatten()[:3].numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5)
