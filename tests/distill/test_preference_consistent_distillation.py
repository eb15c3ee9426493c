from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest
import torch

from pyg_kd import PreferenceConsistentDistillation
from pyg_kd.typing import Batch
from tests.distill.sure import sure_items, unsure

NODES = ("user", "item")
LIST = {"regularizer": "list", "num_items": 4, "num_experts": 3}
PAIR = {"regularizer": "pair", "num_experts": 3}


def array(x) -> np.ndarray:
    return x.detach().double().numpy()


def arrays(x_dict) -> dict[str, np.ndarray]:
    return {key: array(x) for key, x in x_dict.items()}


def project(net, t: np.ndarray, s: np.ndarray, exponential: np.ndarray, tau: float) -> np.ndarray:
    """The mixture of experts of one entity."""
    logit = array(net.selection.weight) @ t + array(net.selection.bias)
    log_alpha = logit - np.log(np.exp(logit).sum())
    z = (log_alpha - np.log(exponential)) / tau
    z = np.exp(z - z.max())
    z /= z.sum()
    w1, b1, w2, b2 = (array(v) for v in (net.w1, net.b1, net.w2, net.b2))
    return sum(z[m] * (np.maximum(s @ w1[m] + b1[m], 0) @ w2[m] + b2[m]) for m in range(len(z)))


def items_of(method, problem) -> torch.Tensor:
    """What is drawn for every user, -1 where there is too little."""
    lists = [[*sure_items(problem, user), *[-1] * 30][:30] for user in range(25)]
    return torch.tensor(lists).gather(1, method.places)


def regularizer(method, problem, noise: list[np.ndarray], fixed: dict[str, np.ndarray]) -> float:
    """User by user and item by item; ``noise`` as drawn for users, and for listed items."""
    teacher = {n: array(problem.graph[n].teacher_x) for n in NODES}
    nets, tau, total = method.experts.mixture, method.experts.tau, 0.0
    items = items_of(method, problem)
    for row, u in enumerate(np.unique(problem.batch.user)):
        places = [k for k, i in enumerate(items[u].tolist()) if i >= 0]
        if not places or (method.regularizer == "pair" and len(places) < 2):
            continue
        user = project(nets["user"], teacher["user"][u], fixed["user"][u], noise[0][row], tau)
        before, after, sure = [], [], []
        for k in places:
            sure.append(sure_items(problem, int(u))[int(items[u, k])])
            i, own = int(items[u, k]), noise[1][row * method.num_items + k]
            item = project(nets["item"], teacher["item"][i], fixed["item"][i], own, tau)
            before.append(fixed["user"][u] @ fixed["item"][i])
            after.append(user @ item)
        y, z = np.array(before), np.array(after)
        if method.regularizer == "pair":
            total += min(sure) * np.log1p(np.exp(-(z[0] - z[1]) * (y[0] - y[1])))
            continue
        y, z = y / method.softmax_temperature, z / method.softmax_temperature
        target = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
        total -= (sure * target * (z - z.max() - np.log(np.exp(z - z.max()).sum()))).sum()
    return float(total)


def rebuilding(method, problem, noise: list[np.ndarray]) -> float:
    """The loss of the experts, entity by entity."""
    items = np.unique(np.concatenate([problem.batch.positive, problem.batch.negative]))
    entities, total = {"user": np.unique(problem.batch.user), "item": items}, 0.0
    for node_type, drawn in zip(NODES, noise, strict=True):
        net = method.experts.mixture[node_type]
        for row, e in enumerate(entities[node_type]):
            t = array(problem.graph[node_type].teacher_x[e])
            s = array(problem.x_dict[node_type][e])
            total += ((t - project(net, t, s, drawn[row], method.experts.tau)) ** 2).sum()
    return float(total)


@pytest.mark.parametrize("tau", [1.0, 1e-3])
@pytest.mark.parametrize("options", [LIST, LIST | {"softmax_temperature": 2.0}, PAIR], ids=str)
@pytest.mark.parametrize("sure", [True, False])
def test_value(problem, exponential_draws, options: dict, tau: float, sure: bool) -> None:
    problem = problem if sure else unsure(problem)
    exponential_draws.clear()
    method = PreferenceConsistentDistillation(**options, alpha=0.7, temperature=(tau, tau))
    method.bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    # Users and their items for the regulariser, then the experts' own two.
    assert len(exponential_draws) == 4
    expected = regularizer(method, problem, exponential_draws[:2], arrays(problem.x_dict))
    assert expected > 0
    experts = rebuilding(method, problem, exponential_draws[2:])
    assert loss.item() == pytest.approx(experts + 0.7 * expected, rel=1e-9)


@pytest.mark.parametrize("options", [LIST, PAIR], ids=["list", "pair"])
def test_the_student_learns_from_the_experts_alone(problem, options: dict) -> None:
    grads = []
    for alpha in (0.0, 50.0):
        method = PreferenceConsistentDistillation(**options, alpha=alpha)
        torch.manual_seed(1)
        method.bind(problem.graph, 4)
        torch.manual_seed(2)
        for x in problem.x_dict.values():
            x.grad = None
        method(problem.x_dict, problem.graph, problem.batch).backward()
        weights = [p.grad for p in method.parameters()]
        grads.append(([problem.x_dict[n].grad for n in NODES], weights))
    assert all(map(torch.equal, grads[0][0], grads[1][0]))
    assert not any(map(torch.allclose, grads[0][1], grads[1][1]))


@pytest.mark.parametrize("options", [LIST, PAIR], ids=["list", "pair"])
@pytest.mark.parametrize("sure", [True, False])
def test_gradient_of_the_projectors(problem, monkeypatch, options: dict, sure: bool) -> None:
    problem = problem if sure else unsure(problem)
    half = [torch.rand_like(torch.empty(200, 3)) for _ in range(4)]
    calls = cycle(half)
    monkeypatch.setattr(torch, "rand_like", lambda x: next(calls)[: len(x)].clone())
    method = PreferenceConsistentDistillation(**options, alpha=3.0).bind(problem.graph, 4)
    x_dict = {key: x.detach() for key, x in problem.x_dict.items()}
    names = [name for name, _ in method.named_parameters()]

    def loss(*weights: torch.Tensor) -> torch.Tensor:
        args = (x_dict, problem.graph, problem.batch)
        return torch.func.functional_call(method, dict(zip(names, weights, strict=True)), args)

    assert torch.autograd.gradcheck(loss, tuple(method.parameters()), fast_mode=True)


def test_consistent_projectors_are_a_minimum_of_the_list(problem) -> None:
    # Scores after the projectors that are those before: the cross-entropy is the entropy.
    scores = torch.randn(5, 4)
    method = PreferenceConsistentDistillation(**LIST)
    least = method._inconsistency(scores, scores)
    for _ in range(20):
        assert method._inconsistency(scores, scores + 0.1 * torch.randn(5, 4)) > least
    pair = PreferenceConsistentDistillation(**PAIR)
    agree, differ = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    assert pair._inconsistency(agree, agree) < pair._inconsistency(agree, differ)


def test_items_are_distinct_and_of_the_list(problem) -> None:
    method = PreferenceConsistentDistillation(num_items=5, num_ranked=8).bind(problem.graph, 4)
    first = items_of(method, problem)
    for user, items in enumerate(first.tolist()):
        assert len(set(items)) == 5 and set(items) <= set(problem.ranked[user, :8].tolist())
    before = method.places
    method(problem.x_dict, problem.graph, problem.batch)
    assert method.places is before
    method.on_epoch_start(1, 2)
    assert not torch.equal(method.places, before)


def test_items_follow_the_law(problem) -> None:
    # With two of three items drawn, the one left out has a known probability.
    problem.graph["user"].teacher_items = torch.arange(3).repeat(25, 1).to(torch.int32)
    method = PreferenceConsistentDistillation(regularizer="pair", rank_temperature=2.0)
    method.bind(problem.graph, 4)
    rounds, left = 800, np.zeros(3)
    for epoch in range(rounds):
        method.on_epoch_start(epoch, rounds)
        left += np.bincount(3 - method.places.sum(1).numpy(), minlength=3)
    p = np.exp(-np.arange(3) / 2.0)
    p /= p.sum()
    pairs = {(a, b): p[a] * p[b] / (1 - p[a]) for a in range(3) for b in range(3) if a != b}
    expected = np.array([sum(v for k, v in pairs.items() if c not in k) for c in range(3)])
    n = rounds * 25
    assert (abs(left / n - expected) < 5 * np.sqrt(expected * (1 - expected) / n)).all()


@pytest.mark.parametrize("options", [LIST, PAIR], ids=["list", "pair"])
@pytest.mark.parametrize("length", [0, 1, 3])
def test_short_lists(problem, exponential_draws, options: dict, length: int) -> None:
    user = int(problem.batch.user[0])
    problem.graph["user"].teacher_items[user, length:] = -1
    method = PreferenceConsistentDistillation(**options, alpha=100.0).bind(problem.graph, 4)
    kept, items = problem.ranked[user, :length].tolist(), items_of(method, problem)[user].tolist()
    assert {i for i in items if i >= 0} <= set(kept)
    assert sum(i >= 0 for i in items) == min(length, method.num_items)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    expected = regularizer(method, problem, exponential_draws[:2], arrays(problem.x_dict))
    experts = rebuilding(method, problem, exponential_draws[2:])
    assert loss.item() == pytest.approx(experts + 100 * expected, rel=1e-9)
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters())


def test_unique_users_count_once(problem) -> None:
    batch = problem.batch
    twice = Batch(*(v.repeat(2) for v in (batch.user, batch.positive, batch.negative)))
    method = PreferenceConsistentDistillation(**LIST).bind(problem.graph, 4)
    losses = []
    for each in (batch, twice):
        torch.manual_seed(4)
        losses.append(method(problem.x_dict, problem.graph, each))
    assert torch.equal(*losses)


def test_the_epoch_anneals_the_routing(problem) -> None:
    method = PreferenceConsistentDistillation(temperature=(1.0, 0.01)).bind(problem.graph, 4)
    method.on_epoch_start(5, 10)
    assert method.experts.tau == pytest.approx(0.1)


def test_pairs_are_of_two_items() -> None:
    assert PreferenceConsistentDistillation(regularizer="pair", num_items=7).num_items == 2
    assert PreferenceConsistentDistillation(num_items=7).num_items == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularizer": "x"}, r"'regularizer' must be one of \('list', 'pair'\) \(got 'x'\)"),
        ({"alpha": -0.5}, r"'alpha' must be 0 or more \(got -0.5\)"),
        ({"num_items": 1}, r"'num_items' must be an integer of 2 or more \(got 1\)"),
        ({"num_ranked": 4}, r"'num_ranked' must be an integer of 5 or more \(got 4\)"),
        ({"softmax_temperature": 0.0}, r"'softmax_temperature' must be positive \(got 0.0\)"),
        ({"rank_temperature": 0.0}, r"'rank_temperature' must be positive \(got 0.0\)"),
        ({"num_experts": 0}, r"'num_experts' must be a positive integer \(got 0\)"),
        ({"temperature": (0.0, 1.0)}, "'temperature'"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PreferenceConsistentDistillation(**options)


def test_lists_shorter_than_asked_for(problem) -> None:
    with pytest.raises(ValueError, match=r"'num_items' is 31.*30 items.*num_items >= 31"):
        PreferenceConsistentDistillation(num_items=31).bind(problem.graph, 4)
