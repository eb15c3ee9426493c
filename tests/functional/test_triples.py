from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.functional import bpr_loss
from pyg_kd.functional.triples import triple_loss


def by_hand(x_user, x_item, user, candidates):
    """The loss, and its gradients by the chain rule, triple by triple."""
    loss, g_user, g_item = 0.0, np.zeros_like(x_user), np.zeros_like(x_item)
    for u, (positive, *negatives) in zip(user, candidates, strict=True):
        for negative in negatives:
            margin = x_user[u] @ (x_item[positive] - x_item[negative])
            loss += np.log1p(np.exp(-margin))
            slope = -1 / (1 + np.exp(margin))
            g_user[u] += slope * (x_item[positive] - x_item[negative])
            g_item[positive] += slope * x_user[u]
            g_item[negative] -= slope * x_user[u]
    return loss, g_user, g_item


def world(seed, size, num_negatives, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)
    x_user, x_item = (torch.randn(n, 3, generator=generator, dtype=dtype) for n in (4, 6))
    user = torch.randint(3, (size,), generator=generator)  # the last user and item are not read
    candidates = torch.randint(5, (size, 1 + num_negatives), generator=generator)
    return x_user.requires_grad_(), x_item.requires_grad_(), user, candidates


@given(st.integers(0, 2**30), st.integers(0, 6), st.integers(1, 3))
def test_value_and_gradients(seed, size, num_negatives):
    x_user, x_item, user, candidates = world(seed, size, num_negatives)
    loss = triple_loss(x_user, x_item, user, candidates)
    found = torch.autograd.grad(3 * loss, (x_user, x_item))
    arrays = (t.detach().numpy() for t in (x_user, x_item, user, candidates))
    expected = by_hand(*arrays)
    assert loss.item() == pytest.approx(expected[0], rel=1e-12)
    for a, b in zip(found, expected[1:], strict=True):
        np.testing.assert_allclose(a.numpy(), 3 * b, rtol=1e-10, atol=1e-12)


def test_it_is_the_loss_of_gathered_rows():
    x_user, x_item, user, candidates = world(0, 50, 2, torch.float32)
    scores = torch.einsum("bd,bnd->bn", x_user[user], x_item[candidates])
    expected = bpr_loss(scores[:, 0], scores[:, 1:])
    loss = triple_loss(x_user, x_item, user, candidates)
    torch.testing.assert_close(loss, expected)
    for a, b in zip(
        torch.autograd.grad(loss, (x_user, x_item)),
        torch.autograd.grad(expected, (x_user, x_item)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_gradients_of_gradients():
    x_user, x_item, user, candidates = world(1, 5, 2)
    args = (x_user, x_item)
    torch.autograd.gradgradcheck(lambda *x: triple_loss(*x, user, candidates), args)


@pytest.mark.parametrize("wanted", [0, 1])
def test_only_what_asks_gets_a_gradient(wanted):
    *tables, user, candidates = world(2, 5, 1)
    expected = torch.autograd.grad(triple_loss(*tables, user, candidates), tables)[wanted]
    constant = [x if place == wanted else x.detach() for place, x in enumerate(tables)]
    for create_graph in (False, True):
        loss = triple_loss(*constant, user, candidates)
        (found,) = torch.autograd.grad(loss, constant[wanted], create_graph=create_graph)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half])
def test_half_precision_is_float32_inside(dtype):
    x_user, x_item, user, candidates = world(3, 40, 1, torch.float32)
    halves = [x.detach().to(dtype).requires_grad_() for x in (x_user, x_item)]
    loss = triple_loss(*halves, user, candidates)
    wide = [x.detach().float().requires_grad_() for x in halves]
    expected = triple_loss(*wide, user, candidates)
    assert torch.equal(loss, expected.to(dtype))
    for a, b in zip(
        torch.autograd.grad(loss, halves), torch.autograd.grad(expected, wide), strict=True
    ):
        assert torch.equal(a, b.to(dtype))


def test_margins_of_any_size_are_safe():
    x_user = torch.tensor([[1e4]], requires_grad=True)
    x_item = torch.tensor([[-1.0], [1.0]], requires_grad=True)
    loss = triple_loss(x_user, x_item, torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 0]]))
    assert loss.item() == 2e4
    g_user, g_item = torch.autograd.grad(loss, (x_user, x_item))
    assert g_user.item() == 2.0 and g_item.flatten().tolist() == [-1e4, 1e4]
