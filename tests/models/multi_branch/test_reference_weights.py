from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.functional.list_likelihood import list_likelihood_loss
from pyg_kd.models import MultiBranch
from pyg_kd.models.multi_branch import reference_weights as module
from pyg_kd.models.multi_branch.branch import HEADS
from pyg_kd.models.multi_branch.reference_weights import BranchVectors, ReferenceWeights
from pyg_kd.typing import INTERACTS, Batch

USERS, ITEMS, DIM = 5, 6, 8
EDGES = torch.tensor([[3, 0, 0, 1, 2, 3, 4, 1], [0, 1, 4, 2, 2, 4, 3, 0]])
#: Items on which the heads are supposed to agree for users 0 and 3.
AGREED = {0: [2, 0, 5, 3], 3: [1, 5, 2, 3]}
ALPHA, FLOOR, LR = 0.2, 0.01, 0.05


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = USERS, ITEMS
    data[INTERACTS].edge_index = EDGES
    return data


def make() -> MultiBranch:
    torch.manual_seed(0)
    model = MultiBranch(graph(), DIM, variant="reference", dropout=0.0, init_std=0.5)
    return model.double()


class Theirs:
    """The authors' network and training step, in NumPy, a head at a time."""

    def __init__(self, model: MultiBranch) -> None:
        self.p = {k: v.numpy().copy() for k, v in model.state_dict().items()}
        self.tables = [self.p["user_embedding"], self.p["item_embedding"]]

    def scores(self, x: int) -> np.ndarray:
        """Of all users and items, ``[U, I]``."""
        first, bias, second, shift = (
            self.p[f"branches.{x}.shared.{k}.{n}"] for k in "01" for n in ("weight", "bias")
        )
        weight, b = (self.p[f"branches.{x}.head.{n}"] for n in ("weight", "bias"))
        u, i = (np.maximum(t @ first.T + bias, 0) @ second.T + shift for t in self.tables)
        if x == 0:
            return (u @ weight.T + b) @ (i @ weight.T + b).T
        if x == 1:
            u, i = (h @ weight.T + b for h in (u, i))
            u, i = (h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1) for h in (u, i))
            return -((u[:, None] - i[None]) ** 2).sum(2)
        if x in (2, 3):
            return (u[:, None] * i[None]) @ weight[0] + b
        return u @ weight.T + b if x == 4 else (i @ weight.T + b).T

    def loss(self, x: int, batch: Batch) -> float:
        scores, total = self.scores(x), 0.0
        triples = torch.stack([batch.user, batch.positive, batch.negative], 1).tolist()
        for user, p, n in triples if x < 4 else ():
            pos, neg = scores[user, p], scores[user, n]
            if x == 0:
                total -= np.log(1 / (1 + np.exp(neg - pos)))
            elif x == 1:
                total += max(0.0, 1.0 - pos + neg)
            elif x == 2:
                total += np.log(1 + np.exp(-pos)) + np.log(1 + np.exp(neg))
            else:
                total += (pos - 1) ** 2 + neg**2
        users = {user for user, _, _ in triples}
        items = {item for _, p, n in triples for item in (p, n)}  # the negatives too
        for user, item in EDGES.t().tolist() if x >= 4 else ():
            if user in users if x == 4 else item in items:
                others = scores[user] if x == 4 else scores[:, item]
                total -= np.log(np.exp(scores[user, item]) / np.exp(others).sum())
        return float(total)

    def list_loss(self, x: int) -> float:
        scores, total = self.scores(x), 0.0
        for user, items in AGREED.items():
            s = scores[user, items] * (10 if x == 1 else 1)
            above, below = s[:2], np.exp(s[2:]).sum()
            total -= sum(above[k] - np.log(np.exp(above[k:]).sum() + below) for k in range(2))
        return float(total)

    def gradients(self, value: Callable[[], float]) -> list[np.ndarray]:
        """Of a value in both tables, by central differences."""
        grads = []
        for table in self.tables:
            grad = np.zeros_like(table)
            for place in np.ndindex(*table.shape):
                kept = table[place]
                table[place] = kept + 1e-6
                high = value()
                table[place] = kept - 1e-6
                grad[place] = (high - value()) / 2e-6
                table[place] = kept
            grads.append(grad)
        return grads


class Balance:
    """Their weights, with an Adam of their own."""

    def __init__(self, num: int = 6) -> None:
        self.w, self.m, self.v, self.t = np.ones(num), np.zeros(num), np.zeros(num), 0
        self.initial: np.ndarray | None = None

    def gradient(self, losses, grads, list_grads, warm: bool) -> np.ndarray:
        """``grads`` and ``list_grads``, of all heads, in users and items; the latter clipped."""
        weighted = self.w * losses
        if warm or self.initial is None:
            self.initial = weighted

        def norm(x: int, w: float) -> float:
            user, item = (
                w * own + (0 if list_grads is None else list_grads[x][side])
                for side, own in enumerate(grads[x])
            )
            return np.linalg.norm(user) + np.linalg.norm(item) / 2

        norms = np.array([norm(x, self.w[x]) for x in range(6)])
        rates = weighted / self.initial
        targets = norms.mean() * (rates / rates.mean()) ** 0.15
        out = np.zeros(6)
        for x in range(6):
            high, low = (abs(norm(x, self.w[x] + s) - targets[x]) for s in (1e-7, -1e-7))
            out[x] = (high - low) / 2e-7
        return out

    def step(self, gradient: np.ndarray) -> None:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        self.w = self.w - LR * m / (np.sqrt(v) + 1e-8)
        self.w = np.maximum(self.w * (6 / self.w.sum()), FLOOR)


def consensus_loss(model: MultiBranch, x_dict: dict[str, torch.Tensor]) -> torch.Tensor:
    """What consensus learning adds for the first five heads, with their weights clipped."""
    total = torch.zeros((), dtype=torch.double)
    weights = model.branch_weights(HEADS).clamp(0.5, 2.0)
    for weight, head in zip(weights[:5], model.layout[:5], strict=True):
        x_user, x_item = head.vectors(x_dict["user"], x_dict["item"])
        for user, items in AGREED.items():
            scores = (x_item[items] @ x_user[user]) * (10 if head.name == "cml" else 1)
            losses = list_likelihood_loss(scores[None, :2], scores[None, 2:], reduction="sum")
            total = total + weight * losses
    return total


def batches(step: int) -> Batch:
    order = torch.randperm(8, generator=torch.Generator().manual_seed(step))[:4]
    return Batch(*EDGES[:, order], torch.tensor([5, 1, 3, 5]).roll(step))


@pytest.mark.parametrize("taught_from", [0, 3, None])
def test_steps_are_theirs(taught_from: int | None, monkeypatch) -> None:
    """Six steps, two an epoch; one epoch of warm-up; a consensus from some step on."""
    monkeypatch.setattr(module, "WARM_UP", 1)
    model, data, balance = make(), graph(), Balance()
    others = [p for name, p in model.named_parameters() if name != "weights.value"]
    own = torch.optim.Adam([model.weights.value], lr=LR)
    optimizer = torch.optim.SGD(others, lr=0.02)
    for step in range(6):
        batch, taught = batches(step), taught_from is not None and step >= taught_from
        x_dict = model(data)
        loss = model.own_loss(x_dict, data, batch)
        total = loss + ALPHA * consensus_loss(model, x_dict) if taught else loss
        model.zero_grad()
        total.backward()

        theirs = Theirs(model)
        losses = np.array([theirs.loss(x, batch) for x in range(6)])
        grads = [theirs.gradients(partial(theirs.loss, x, batch)) for x in range(6)]
        list_grads = None
        if taught:
            clipped = ALPHA * np.clip(balance.w, 0.5, 2.0)
            list_grads = [
                [clipped[x] * g for g in theirs.gradients(partial(theirs.list_loss, x))]
                if x < 5
                else [0.0, 0.0]
                for x in range(6)
            ]
        assert loss.item() == pytest.approx(float(balance.w @ losses), rel=1e-9)
        for side, table in enumerate((model.user_embedding, model.item_embedding)):
            expected = sum(w * g[side] for w, g in zip(balance.w, grads, strict=True))
            expected = expected + sum(g[side] for g in list_grads or [])
            np.testing.assert_allclose(table.grad, expected, rtol=1e-5, atol=1e-6)
        gradient = balance.gradient(losses, grads, list_grads, warm=step < 2)
        np.testing.assert_allclose(model.weights.value.grad, gradient, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model.weights.initial, balance.initial, rtol=1e-9)
        own.step()
        optimizer.step()
        balance.step(gradient)
        used = module.rescale_(model.weights.value.detach().clone())
        np.testing.assert_allclose(used, balance.w, rtol=1e-5)


def test_the_initial_losses_are_those_of_the_eleventh_epoch() -> None:
    weights, user = ReferenceWeights(2), torch.ones(3, 1, requires_grad=True)
    for step in range(2 * 13):  # batches of 4 and 3 edges
        inputs = weights.inputs(user, user)
        losses = torch.stack([(pair[0] * (step + 1.0)).sum() for pair in inputs.objective])
        weights(losses, inputs, 4 - step % 2, num_visits=7)
        epoch = step // 2
        expected = 3.0 * (step + 1 if epoch <= 10 else 2 * 11)
        assert weights.initial.tolist() == [expected] * 2
    assert weights.num_seen.item() == 7 * 13


def test_evaluation_does_not_count() -> None:
    model, data = make().eval(), graph()
    with torch.no_grad():
        loss = model.own_loss(model(data), data, batches(0))
    assert not loss.requires_grad and bool(model.weights.initial.isnan().all())
    model.own_loss(model(data), data, batches(0))
    assert model.weights.num_seen.item() == 0


def test_constant_weights() -> None:
    model = MultiBranch(graph(), DIM, variant="reference", balance=False)
    data = graph()
    model.own_loss(model(data), data, batches(0)).backward()
    assert model.weights.value.grad is None and model.weights.value.eq(1).all()
    assert model.user_embedding.grad.any() and model.item_embedding.grad.any()


def test_only_other_losses() -> None:
    model, data = make(), graph()
    consensus_loss(model, model(data)).backward()
    assert model.weights.value.grad is None and model.user_embedding.grad.any()


def test_without_the_vectors_of_the_step_the_balance_is_that_of_the_objectives() -> None:
    data, grads = graph(), []
    for given in (True, False):
        model = make()
        x_dict = model(data) if given else {}
        model.own_loss(x_dict, data, batches(0)).backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*grads, strict=True))


def test_the_graph_of_a_step_is_freed() -> None:
    model, data = make(), graph()
    gc.disable()
    try:
        x_dict = model(data)
        assert isinstance(x_dict, BranchVectors)
        kept = weakref.ref(x_dict.inputs.objective[0][0])
        model.own_loss(x_dict, data, batches(0)).backward()
        del x_dict
        assert kept() is None
    finally:
        gc.enable()


def test_reset() -> None:
    model, data = make(), graph()
    model.own_loss(model(data), data, batches(0))
    model.reset_parameters()
    weights = model.weights
    assert weights.value.eq(1).all() and bool(weights.initial.isnan().all())
    assert weights.num_seen.item() == 0
