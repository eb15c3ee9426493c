from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyg_kd.functional import list_likelihood_loss
from pyg_kd.functional.list_likelihood import list_gradients, list_losses, reduce

INF = math.inf


def one_list(listed: np.ndarray, tail: np.ndarray) -> float:
    """The formula as it is written, place by place, in float64; the padding is cut out first."""
    listed, tail = listed[listed > -INF], tail[tail > -INF]
    loss = 0.0
    for k in range(len(listed)):
        below = sum(math.exp(s) for s in listed[k:]) + sum(math.exp(s) for s in tail)
        loss -= math.log(math.exp(listed[k]) / below)
    return loss


def naive(listed: Tensor, tail: Tensor) -> Tensor:
    """The same in torch, for autograd: a sum over all lists and places."""
    loss = listed.new_zeros(())
    for row, below in zip(listed.flatten(0, -2), tail.flatten(0, -2), strict=True):
        row, below = row[row > -INF], below[below > -INF]
        for k in range(len(row)):
            loss = loss + torch.cat([row[k:], below]).exp().sum().log() - row[k]
    return loss


@st.composite
def problems(draw):
    shape = (draw(st.integers(1, 4)),)
    if draw(st.booleans()):
        shape = (draw(st.integers(1, 3)), *shape)
    num_listed, num_tail = draw(st.integers(1, 7)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    listed = 3 * rng.standard_normal((*shape, num_listed))
    tail = 3 * rng.standard_normal((*shape, num_tail))
    padded = draw(st.sampled_from([0.0, 0.3, 1.0]))
    listed[rng.random(listed.shape) < padded] = -INF  # the padding may come anywhere
    tail[rng.random(tail.shape) < padded] = -INF
    return torch.from_numpy(listed), torch.from_numpy(tail)


@given(problems())
def test_value_and_gradient(problem):
    listed, tail = (v.requires_grad_() for v in problem)
    loss = list_likelihood_loss(listed, tail, reduction="none")
    rows = zip(
        listed.detach().flatten(0, -2).numpy(), tail.detach().flatten(0, -2).numpy(), strict=True
    )
    expected = np.array([one_list(*row) for row in rows])
    assert loss.shape == listed.shape[:-1]
    np.testing.assert_allclose(loss.detach().flatten().numpy(), expected, rtol=1e-10, atol=1e-10)

    actual = torch.autograd.grad(loss.sum(), (listed, tail))
    reference = naive(listed, tail)
    if not reference.requires_grad:
        assert all(g.eq(0).all() for g in actual)
        return
    reference = torch.autograd.grad(reference, (listed, tail), materialize_grads=True)
    for a, b in zip(actual, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def weighted(listed: Tensor, tail: Tensor, weight: Tensor) -> Tensor:
    """The sum over all lists and places, each with its weight, for autograd."""
    loss = listed.new_zeros(())
    for row, below, own in zip(*(v.flatten(0, -2) for v in (listed, tail, weight)), strict=True):
        own, row, below = own[row > -INF], row[row > -INF], below[below > -INF]
        for k in range(len(row)):
            loss = loss + own[k] * (torch.cat([row[k:], below]).logsumexp(0) - row[k])
    return loss


@given(problems(), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 150.0]))
def test_weights_of_places(problem, seed: int, scale: float):
    # Far apart, scores take the way through logarithms.
    listed, tail = ((scale * v).requires_grad_() for v in problem)
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.random(listed.shape) * (rng.random(listed.shape) < 0.8))
    loss, expected = (
        list_likelihood_loss(listed, tail, weight=weight),
        weighted(listed, tail, weight),
    )
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    found = torch.autograd.grad(loss, (listed, tail))
    if not expected.requires_grad:
        assert all(g.eq(0).all() for g in found)
        return
    expected = torch.autograd.grad(expected, (listed, tail), materialize_grads=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"'weight' must have the shape of 'listed' \(got \[3\]"):
        list_likelihood_loss(torch.zeros(2, 3), torch.zeros(2, 1), weight=torch.ones(3))


@pytest.mark.parametrize(("num_listed", "num_tail"), [(1, 1), (1, 0), (4, 0), (5, 3)])
def test_gradcheck(num_listed, num_tail):
    listed = torch.randn(2, num_listed, dtype=torch.double, requires_grad=True)
    tail = torch.randn(2, num_tail, dtype=torch.double, requires_grad=True)
    for reduction in ("sum", "mean", "none"):
        assert torch.autograd.gradcheck(
            lambda s, t, r=reduction: list_likelihood_loss(s, t, reduction=r), (listed, tail)
        )


def test_one_place_is_the_softmax_cross_entropy():
    logits = torch.randn(5, 7, dtype=torch.double)
    expected = torch.nn.functional.cross_entropy(
        logits, torch.zeros(5, dtype=torch.long), reduction="none"
    )
    loss = list_likelihood_loss(logits[:, :1], logits[:, 1:], reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)


def test_order_counts_in_the_list_and_not_in_the_tail():
    listed = torch.tensor([[3.0, 1.0, -1.0]], dtype=torch.double)
    tail = torch.randn(1, 6, dtype=torch.double)
    loss = list_likelihood_loss(listed, tail)
    shuffled = list_likelihood_loss(listed, tail[:, torch.randperm(6)])
    torch.testing.assert_close(shuffled, loss, rtol=1e-12, atol=0)
    # The scores in their own order are likelier than in any other.
    for order in ([0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
        assert list_likelihood_loss(listed[:, order], tail) > loss + 1e-3


def test_a_shift_of_all_scores_changes_nothing():
    listed, tail = torch.randn(3, 5, dtype=torch.double), torch.randn(3, 4, dtype=torch.double)
    shifted = list_likelihood_loss(listed + 1000, tail + 1000)
    torch.testing.assert_close(shifted, list_likelihood_loss(listed, tail), rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.half])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("num_tail", [0, 6])
def test_large_scores_are_safe(dtype, scale, num_tail):
    listed, tail = scale * (2 * torch.rand(20, 8) - 1), scale * (2 * torch.rand(20, num_tail) - 1)
    listed[:, 0], listed[0], listed[1] = scale, -scale, scale
    tail[2:4], tail[4] = -scale, scale
    listed[:, 5:][torch.rand(20, 3) < 0.5] = -INF
    listed, tail = listed.to(dtype).requires_grad_(), tail.to(dtype).requires_grad_()
    loss = list_likelihood_loss(listed, tail, reduction="none")
    assert loss.dtype == dtype
    expected = list_likelihood_loss(listed.double(), tail.double(), reduction="none")
    if dtype == torch.half:  # sums above 65504 have no half: they are inf, never NaN
        assert not loss.isnan().any()
    else:
        assert loss.isfinite().all()
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
        # A place is off by the spacing of floats at the size of the scores, the list by eight.
        spacing = 8 * scale * torch.finfo(torch.promote_types(dtype, torch.float)).eps
        torch.testing.assert_close(loss.double(), expected, rtol=tolerance, atol=spacing)
    gradients = torch.autograd.grad(loss.sum(), (listed, tail))
    reference = torch.autograd.grad(expected.sum(), (listed, tail))
    for actual, want in zip(gradients, reference, strict=True):
        assert actual.dtype == dtype and actual.isfinite().all()
        torch.testing.assert_close(actual, want, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("gap", [10.0, 58.0, 70.0, 85.0, 95.0, 100.0, 103.0, 120.0])
def test_denominators_far_below_the_largest_score(gap):
    # Beside the first place, terms of the last ones are down to the smallest floats and beneath.
    listed = torch.tensor([[0.0, -gap, -gap - 0.5, -gap - 3]])
    tail = torch.cat([torch.tensor([-gap - 4]), torch.full((50_000,), -gap - 15)]).unsqueeze(0)
    values, gradients = [], []
    for dtype in (torch.float32, torch.float64):
        s, t = (v.to(dtype, copy=True).requires_grad_() for v in (listed, tail))
        loss = list_likelihood_loss(s, t)
        values.append(loss.item())
        gradients.append([g.double() for g in torch.autograd.grad(loss, (s, t))])
    # A place is off by the spacing of floats at the size of the scores.
    spacing = 4 * gap * torch.finfo(torch.float32).eps
    assert values[0] == pytest.approx(values[1], abs=spacing)
    assert values[1] == pytest.approx(
        one_list(*(v[0].double().numpy() for v in (listed, tail))), rel=1e-9
    )
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


class Float64Results(TorchDispatchMode):
    """Notes whether an operator returned anything in float64."""

    found = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        leaves = [v for v in tree_leaves(out) if isinstance(v, Tensor)]
        self.found |= any(v.dtype == torch.float64 for v in leaves)
        return out


@pytest.mark.parametrize(
    ("smallest", "doubled"), [(1.0, False), (1e-25, False), (1e-27, True), (1e-44, True)]
)
def test_small_denominators_alone_are_taken_in_float64(smallest, doubled):
    # From 1e-26 on float32 has all that counts: what underflows is 1e-12 of it or less.
    last = math.log(smallest / 2)
    listed, tail = torch.tensor([[0.0, last]]), torch.tensor([[last]])
    with Float64Results() as mode:
        _, lse = list_losses._init_fn(listed, tail)
    assert mode.found == doubled and lse.dtype == torch.float32
    with Float64Results() as mode:
        list_gradients._init_fn(listed, tail, lse)
    assert mode.found == doubled


def test_saturated_scores_match_the_limit():
    # exp(1e4) exceeds every float; the loss is 2 * 1e4 + 1e4 by hand.
    listed = torch.tensor([[-1e4, 0.0]], requires_grad=True)
    tail = torch.tensor([[1e4]], requires_grad=True)
    loss = list_likelihood_loss(listed, tail)
    assert loss.item() == 3e4
    loss.backward()
    assert listed.grad.tolist() == [[-1.0, -1.0]]
    assert tail.grad.item() == pytest.approx(2.0, abs=2e-3)  # float32 at 1e4 is spaced by 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_tail", [0, 2])
def test_lists_of_padding_alone_cost_nothing(dtype, num_tail):
    listed = torch.full((3, 4), -INF, dtype=dtype)
    listed[1, :2] = 1.0
    tail = torch.full((3, num_tail), -INF, dtype=dtype)
    tail[2] = 5.0  # a tail without a list
    listed.requires_grad_(), tail.requires_grad_()
    loss = list_likelihood_loss(listed, tail, reduction="none")
    assert loss[0] == 0 and loss[2] == 0 and loss[1] > 0
    gradients = torch.autograd.grad(loss.sum(), (listed, tail))
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert gradient[0].eq(0).all() and gradient[2].eq(0).all()
    assert gradients[0][1, 2:].eq(0).all()


def test_reductions():
    listed, tail = torch.randn(4, 3, 5), torch.randn(4, 3, 2)
    each = list_likelihood_loss(listed, tail, reduction="none")
    assert each.shape == (4, 3)
    torch.testing.assert_close(list_likelihood_loss(listed, tail), each.sum())
    mean = list_likelihood_loss(listed, tail, reduction="mean")
    torch.testing.assert_close(mean, each.sum() / 12)
    with pytest.raises(ValueError, match=r"'reduction' must be .*\(got 'max'\)"):
        reduce(each, "max")
    with pytest.raises(ValueError, match=r"\(got 'max'\)"):
        list_likelihood_loss(listed, tail, reduction="max")


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"agree .*\(got \[2, 3\] and \[3, 3\]\)"):
        list_likelihood_loss(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"at least one place \(got \[2, 0\]\)"):
        list_likelihood_loss(torch.ones(2, 0), torch.ones(2, 3))
