from __future__ import annotations

import math
from math import inf

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd.functional import bpr_loss, softmax_loss
from pyg_kd.functional.losses import multinomial_loss, padded_softmax, soft_cross_entropy
from pyg_kd.functional.sparse import CSR

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


SCORES = torch.tensor(
    [[1.0, -2.0, 0.5, 3.0], [0.0, -inf, 2.0, -inf], [-inf, 4.0, -inf, -inf], [-inf] * 4],
    dtype=torch.double,
)


def one_by_one(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    out = []
    for s, q in zip(scores, target, strict=True):
        keep = s > -inf
        total = s[keep].exp().sum()
        out.append(-(q[keep] * (s[keep].exp() / total).log()).sum())
    return torch.stack(out)


def test_value_and_gradient_with_padding():
    target = padded_softmax(SCORES.roll(1, 1).masked_fill(-inf == SCORES, -inf))
    scores = SCORES.clone().requires_grad_()
    losses = soft_cross_entropy(scores, target)
    torch.testing.assert_close(losses, one_by_one(SCORES, target))
    assert losses[2:].tolist() == [0, 0]
    (gradient,) = torch.autograd.grad(losses.sum(), scores)
    # The gradient of a cross-entropy: what is, less what should be.
    mass = target.sum(1, keepdim=True)
    torch.testing.assert_close(gradient, mass * padded_softmax(SCORES) - target)
    assert gradient[3].tolist() == [0] * 4


def test_gradcheck_of_soft_cross_entropy():
    scores, target = torch.randn(3, 5).double().requires_grad_(), torch.rand(3, 5).double()
    assert torch.autograd.gradcheck(lambda s: soft_cross_entropy(s, target), scores)


def test_softmax_of_padding_alone_is_zero():
    p = padded_softmax(SCORES)
    torch.testing.assert_close(p.sum(1), torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.double))
    assert bool(((p == 0) == (-inf == SCORES)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_scores(dtype):
    scores = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    loss = soft_cross_entropy(scores, torch.tensor([[0.5, 0.5, 0.0]], dtype=dtype))
    assert loss.item() == pytest.approx(1e4, rel=1e-2)
    loss.sum().backward()
    assert bool(scores.grad.isfinite().all())


def test_nan_shows():
    scores = SCORES.clone()
    scores[1, 0] = torch.nan
    assert (
        soft_cross_entropy(scores, torch.ones(4, 4)).isnan().tolist() == [False, True] + [False] * 2
    )


#: The columns of each of four rows; one has none, and one has all.
COLUMNS = [[1, 4], [], [0, 1, 2, 3, 4], [3]]
OBSERVED = CSR(
    torch.tensor([0, 2, 2, 7, 8], dtype=torch.int32),
    torch.tensor([c for columns in COLUMNS for c in columns], dtype=torch.int32),
    torch.ones(8),
)


def oracle(x_row: np.ndarray, x_col: np.ndarray, rows: list[int]) -> float:
    total = 0.0
    for x, row in zip(x_row, rows, strict=True):
        scores = [float(x @ y) for y in x_col]
        denominator = sum(np.exp(s) for s in scores)
        for column in COLUMNS[row]:
            total -= np.log(np.exp(scores[column]) / denominator)
    return total


@pytest.mark.parametrize("rows", [[2, 0], [1], [3, 1, 0, 2], []])
def test_value_and_gradient_of_multinomial(rows):
    x = torch.randn(len(rows), 3, dtype=torch.double, requires_grad=True)
    y = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    index = torch.tensor(rows, dtype=torch.long)
    loss = multinomial_loss(x, y, index, OBSERVED)
    expected = oracle(x.detach().numpy(), y.detach().numpy(), rows)
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x, y: multinomial_loss(x, y, index, OBSERVED), (x, y))


def test_large_scores_of_multinomial():
    x, y = torch.full((1, 1), 1e4), torch.tensor([[1.0], [0.5], [0.0], [1.0], [-1.0]])
    x.requires_grad_()
    loss = multinomial_loss(x, y, torch.tensor([3]), OBSERVED)
    assert loss.item() == pytest.approx(np.log(2), abs=1e-2)
    loss.backward()
    assert bool(x.grad.isfinite().all())
