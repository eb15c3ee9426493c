from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd.models.multi_branch.weights import (
    BranchWeights,
    gradient_balance_loss,
    renormalize_,
    rescale_,
)


class Towers:
    """Two tables, and three branches; the second uses no items but a table of its own."""

    def __init__(self) -> None:
        self.tables = [torch.randn(n, 4).double().requires_grad_() for n in (5, 6)]
        self.layers = [torch.randn(4, w).double().requires_grad_() for w in (2, 1, 3)]
        self.own = torch.randn(6, 1).double().requires_grad_()
        self.rows = torch.tensor([3, 0, 1])

    def inputs(self) -> list[tuple[Tensor, Tensor]]:
        user, item = self.tables[0][self.rows], self.tables[1]
        return [(user.view_as(user), item.view_as(item)) for _ in self.layers]

    def losses(self, inputs: list[tuple[Tensor, Tensor]]) -> Tensor:
        out = []
        for x, ((user, item), layer) in enumerate(zip(inputs, self.layers, strict=True)):
            items = self.own if x == 1 else item @ layer
            out.append((x + 1) * ((user @ layer).tanh().sum() - 0.3 * items.tanh().sum()).square())
        return torch.stack(out)

    @property
    def parameters(self) -> list[list[Tensor]]:
        own = [[layer] for layer in self.layers]
        own[1].append(self.own)
        return own

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.tables, *self.layers, self.own]

    def weighted(self, weights: BranchWeights) -> Tensor:
        inputs = self.inputs()
        return weights(self.losses(inputs), inputs, self.parameters)


def slow(towers: Towers, weights: Tensor, initial: Tensor | None) -> tuple[Tensor, ...]:
    """Value and gradients, one loss at a time."""

    def forward() -> Tensor:
        return towers.losses(towers.inputs())

    losses = forward().detach()
    norms = []
    for x in range(3):
        user, item = torch.autograd.grad(forward()[x], towers.tables, materialize_grads=True)
        norms.append(user.norm() + 0.5 * item.norm())
    leaf = weights.clone().requires_grad_()
    start = losses if initial is None else initial
    gradient_balance_loss(leaf, torch.stack(norms), losses, start).backward()
    total = (weights * forward()).sum()
    grads = torch.autograd.grad(total, towers.leaves)
    return total, leaf.grad, losses, *grads


def make(**options: bool) -> tuple[Towers, BranchWeights]:
    return Towers(), BranchWeights(3, **options).double()


def test_value_and_gradients() -> None:
    towers, weights = make()
    initial = None
    for step in range(3):
        with torch.no_grad():
            weights.value.copy_(torch.tensor([1.5, 0.5, 1.0]) if step else torch.ones(3))
        total = towers.weighted(weights)
        (2 * total).backward()  # as in a sum with other terms
        expected = slow(towers, weights.value.detach(), initial)
        torch.testing.assert_close(total, expected[0])
        torch.testing.assert_close(weights.value.grad, 2 * expected[1])
        if initial is None:
            initial = expected[2]
        torch.testing.assert_close(weights.initial, initial)  # those of the first batch
        for leaf, grad in zip(towers.leaves, expected[3:], strict=True):
            torch.testing.assert_close(leaf.grad, 2 * grad)
            leaf.grad = None
            leaf.data += 0.05 * torch.randn_like(leaf)  # other losses in the next step
        weights.value.grad = None


def test_weights_are_renormalized_before_they_are_used() -> None:
    towers, weights = make()
    with torch.no_grad():
        weights.value.copy_(torch.tensor([2.0, -1.0, 3.99]))
    total = towers.weighted(weights)
    expected = torch.tensor([1.0, 0.01, 1.995]).double()
    torch.testing.assert_close(weights.value.detach(), expected)
    torch.testing.assert_close(total, (expected * towers.losses(towers.inputs())).sum())


def test_constant_weights() -> None:
    towers, weights = make(learn=False)
    total = towers.weighted(weights)
    assert torch.equal(total, towers.losses(towers.inputs()).sum())
    assert not weights.value.requires_grad
    total.backward()
    assert all(leaf.grad.any() for leaf in towers.leaves)


def test_without_gradient() -> None:
    towers, weights = make()
    with torch.no_grad():
        total = towers.weighted(weights)
    assert not total.requires_grad and bool(weights.initial.isnan().all())


def test_reset() -> None:
    towers, weights = make()
    towers.weighted(weights)
    with torch.no_grad():
        weights.value += 1
    weights.reset_parameters()
    assert weights.value.eq(1).all() and bool(weights.initial.isnan().all())


def oracle(
    w: np.ndarray, g: np.ndarray, loss: np.ndarray, start: np.ndarray, power: float, at: np.ndarray
) -> float:
    """The distance at weights ``w``, from the targets that hold at weights ``at``."""
    rates = [a / b for a, b in zip(loss, start, strict=True)]
    mean_rate, mean_norm = sum(rates) / len(rates), sum(at * g) / len(g)
    targets = [mean_norm * (rate / mean_rate) ** power for rate in rates]
    return sum(abs(w[x] * g[x] - targets[x]) for x in range(len(g)))


def test_value_and_gradient() -> None:
    rng = np.random.default_rng(0)
    for power in (0.15, 0.0, 1.5):
        w, g, loss, start = (rng.uniform(0.1, 3.0, 4) for _ in range(4))
        weights = torch.tensor(w, requires_grad=True)
        norms, losses = (torch.tensor(v, requires_grad=True) for v in (g, loss))
        value = gradient_balance_loss(weights, norms, losses, torch.tensor(start), power=power)
        np.testing.assert_allclose(value.item(), oracle(w, g, loss, start, power, w), rtol=1e-12)
        value.backward()
        step = 1e-6 * np.eye(4)
        expected = [
            (oracle(w + e, g, loss, start, power, w) - oracle(w - e, g, loss, start, power, w))
            / 2e-6
            for e in step
        ]
        np.testing.assert_allclose(weights.grad, expected, rtol=1e-6)
        assert norms.grad is None and losses.grad is None


def test_descent_equalizes_the_norms() -> None:
    norms, ones = torch.tensor([1.0, 10.0, 100.0]), torch.ones(3)
    weights = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=1e-2)
    for _ in range(600):
        renormalize_(weights)
        optimizer.zero_grad()
        gradient_balance_loss(weights, norms, ones, ones).backward()
        optimizer.step()
    scaled = renormalize_(weights.detach()) * norms
    # A step of 0.01 is one unit of the third norm.
    assert scaled.max() - scaled.min() < 2


def test_an_empty_batch_moves_nothing() -> None:
    weights, zeros = torch.ones(3, requires_grad=True), torch.zeros(3)
    gradient_balance_loss(weights, zeros, zeros, torch.ones(3)).backward()
    assert torch.equal(weights.grad, zeros)


def test_floor_and_mean() -> None:
    weights = torch.tensor([5.0, 0.001, -2.0, 1.0])
    out = renormalize_(weights)
    assert out is weights
    torch.testing.assert_close(out, torch.tensor([20 / 6.02, 0.01, 0.01, 4 / 6.02]))
    parameter = torch.nn.Parameter(torch.tensor([1.0, 3.0]))
    renormalize_(parameter)
    assert parameter.tolist() == [0.5, 1.5] and parameter.requires_grad


def test_no_weight_ends_below_the_floor() -> None:
    # Raised first alone, the second would end at 0.0075.
    assert renormalize_(torch.tensor([3.0, -1.0, 0.99]))[1].item() == pytest.approx(0.01)
    for _ in range(50):
        weights = renormalize_(3 * torch.randn(6), floor=0.05)
        assert weights.min() >= 0.05 and 1 - 1e-6 < weights.mean() < 1.05


def test_weights_above_the_floor_are_only_scaled() -> None:
    weights = torch.rand(5) + 0.5
    assert torch.equal(renormalize_(weights.clone()), weights * (5 / weights.sum()))


def test_scaled_first_then_raised() -> None:
    """The order of the authors' code: the sum counts weights below the floor as they are."""
    for given in ([3.0, -1.0, 0.99], [0.004, 2.0, 1.0], [1.0, 1.0]):
        coef = len(given) / sum(given)
        expected = [max(w * coef, 0.01) for w in given]
        torch.testing.assert_close(rescale_(torch.tensor(given)), torch.tensor(expected))
