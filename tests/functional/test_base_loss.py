from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd.functional import bpr_loss, softmax_loss

INF = math.inf


def scores(b: int, n: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    positive = scale * torch.randn(b, dtype=torch.double)
    negative = scale * torch.randn(b, n, dtype=torch.double)
    return positive.requires_grad_(), negative.requires_grad_()


def bpr_oracle(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    loss = np.zeros_like(negative)
    for row, column in np.ndindex(*negative.shape):
        loss[row, column] = -math.log(1 / (1 + math.exp(negative[row, column] - positive[row])))
    return loss


def softmax_oracle(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    loss = np.zeros_like(positive)
    for row in range(len(positive)):
        total = math.exp(positive[row]) + sum(math.exp(s) for s in negative[row])
        loss[row] = -math.log(math.exp(positive[row]) / total)
    return loss


def dense_bpr(positive: Tensor, negative: Tensor) -> Tensor:
    return -(1 / (1 + (negative - positive[:, None]).exp())).log()


def dense_softmax(positive: Tensor, negative: Tensor) -> Tensor:
    logits = torch.cat([positive[:, None], negative], dim=1)
    return -(logits.exp() / logits.exp().sum(1, keepdim=True))[:, 0].log()


LOSSES = {
    "bpr": (bpr_loss, bpr_oracle, dense_bpr),
    "softmax": (softmax_loss, softmax_oracle, dense_softmax),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("b", "n"), [(1, 1), (5, 1), (4, 7), (0, 3)])
def test_value_and_gradient(name, b, n):
    loss, oracle, dense = LOSSES[name]
    positive, negative = scores(b, n)
    each = loss(positive, negative, reduction="none")
    expected = oracle(positive.detach().numpy(), negative.detach().numpy())
    np.testing.assert_allclose(each.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss(positive, negative), each.sum())
    if b:
        torch.testing.assert_close(loss(positive, negative, reduction="mean"), each.mean())
    actual = torch.autograd.grad(each.sum(), (positive, negative))
    reference = torch.autograd.grad(dense(positive, negative).sum(), (positive, negative))
    for a, r in zip(actual, reference, strict=True):
        torch.testing.assert_close(a, r, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name):
    loss = LOSSES[name][0]
    for reduction in ("sum", "mean", "none"):
        assert torch.autograd.gradcheck(
            lambda p, n, r=reduction: loss(p, n, reduction=r), scores(4, 3)
        )


def test_one_negative_may_be_a_vector():
    positive, negative = scores(6, 1)
    expected = bpr_loss(positive, negative, reduction="none")[:, 0]
    actual = bpr_loss(positive, negative[:, 0], reduction="none")
    torch.testing.assert_close(actual, expected)
    assert actual.shape == (6,)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_large_scores_are_safe(name, dtype):
    loss = LOSSES[name][0]
    positive = torch.tensor([1e4, -1e4, 0.0], dtype=dtype, requires_grad=True)
    negative = torch.tensor([[-1e4], [1e4], [0.0]], dtype=dtype, requires_grad=True)
    each = loss(positive, negative, reduction="none").flatten()
    assert each.dtype == dtype
    expected = torch.tensor([0.0, 2e4, math.log(2)], dtype=torch.double)
    torch.testing.assert_close(each.double(), expected, rtol=1e-2, atol=1e-6)
    gradients = torch.autograd.grad(each.sum(), (positive, negative))
    assert gradients[0].tolist() == [0.0, -1.0, -0.5]
    assert gradients[1].flatten().tolist() == [0.0, 1.0, 0.5]


def test_minus_infinity_leaves_a_negative_out():
    positive, negative = scores(3, 5)
    keep = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]).bool()
    each = softmax_loss(positive, negative.masked_fill(~keep, -INF), reduction="none")
    gradient = torch.autograd.grad(each.sum(), negative)[0]
    assert gradient[~keep].eq(0).all() and gradient[keep].gt(0).all()
    for row in range(3):
        alone = softmax_loss(positive[row : row + 1], negative[row : row + 1, keep[row]])
        torch.testing.assert_close(each[row], alone)


def test_a_row_without_negatives_costs_nothing():
    positive, negative = scores(3, 4)
    masked = negative.masked_fill(torch.tensor([[True], [False], [True]]), -INF)
    each = softmax_loss(positive, masked, reduction="none")
    assert each[0] == 0 and each[2] == 0 and each[1] > 0
    # The masked scores themselves, too: they are what a model's table would be fed from.
    gradients = torch.autograd.grad(each.sum(), (positive, negative, masked))
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert gradient[[0, 2]].eq(0).all() and gradient[1].ne(0).all()
    positive, none = scores(3, 0)
    loss = softmax_loss(positive, none)
    assert loss == 0
    assert torch.autograd.grad(loss, positive)[0].eq(0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_reduction(name):
    with pytest.raises(ValueError, match=r"'reduction' must be .*\(got 'max'\)"):
        LOSSES[name][0](*scores(2, 2), reduction="max")
