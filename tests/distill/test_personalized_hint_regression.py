from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd import PersonalizedHintRegression
from pyg_kd.distill import personalized_hint_regression as module
from pyg_kd.typing import INTERACTS, Batch

NODES = ("user", "item")


def array(x) -> np.ndarray:
    return x.detach().double().numpy()


def entities(batch: Batch) -> dict[str, np.ndarray]:
    items = np.unique(np.concatenate([batch.positive, batch.negative.flatten()]))
    return {"user": np.unique(batch.user), "item": items}


def view(problem, node_type: str, entity: int) -> np.ndarray:
    """The teacher's representation of an entity, halfway to the mean of its neighbours."""
    pairs = {tuple(pair) for pair in problem.graph[INTERACTS].edge_index.t().tolist()}
    t = {n: array(problem.graph[n].teacher_x) for n in NODES}
    if node_type == "user":
        near = [t["item"][i] for u, i in pairs if u == entity]
    else:
        near = [t["user"][u] for u, i in pairs if i == entity]
    own = t[node_type][entity]
    return (own + np.mean(near, axis=0)) / 2 if near else own


def oracle(method: PersonalizedHintRegression, problem, student: dict[str, np.ndarray]) -> float:
    """The loss, entity by entity and entry by entry of its projection."""
    total = 0.0
    for node_type in NODES:
        net = method.nets[0 if method.shared or node_type == "user" else 1]
        w1, b1, w2, b2 = (array(p) for p in net.parameters())
        for e in entities(problem.batch)[node_type]:
            t, s = array(problem.graph[node_type].teacher_x[e]), student[node_type][e]
            p = w2 @ np.maximum(w1 @ (view(problem, node_type, e) if method.enrich else t) + b1, 0)
            p += b2
            for i in range(len(t)):
                row = sum(p[i * len(s) + k] * s[k] for k in range(len(s)))
                total += (t[i] - row) ** 2
    return float(total)


def arrays(x_dict) -> dict[str, np.ndarray]:
    return {key: array(x) for key, x in x_dict.items()}


VARIANTS = [
    {},
    {"hidden": 3},
    {"enrich": False},
    {"shared": False},
    {"enrich": False, "shared": False, "hidden": 7},
]


@pytest.mark.parametrize("entries", [1, 100, 2**21])  # one entity a block, two, all
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_value_and_gradient(problem, monkeypatch, options: dict, entries: int) -> None:
    monkeypatch.setattr(module, "BLOCK_ENTRIES", entries)
    method = PersonalizedHintRegression(**options).bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    (3 * loss).backward()
    student = arrays(problem.x_dict)
    assert loss.item() == pytest.approx(oracle(method, problem, student), rel=1e-9)
    rng, step = np.random.default_rng(3), 1e-6
    way = {key: rng.standard_normal(x.shape) for key, x in student.items()}
    ahead, back = (
        oracle(method, problem, {key: x + sign * step * way[key] for key, x in student.items()})
        for sign in (1, -1)
    )
    found = sum((array(problem.x_dict[key].grad) * way[key]).sum() for key in NODES)
    assert found == pytest.approx(3 * (ahead - back) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("options", [{"hidden": 3}, {"hidden": 2, "shared": False}], ids=str)
def test_gradient_of_the_nets(problem, monkeypatch, options: dict) -> None:
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 500)  # some full blocks, and one that is not
    for node_type in NODES:
        problem.graph[node_type].teacher_x = problem.graph[node_type].teacher_x.double()
    method = PersonalizedHintRegression(**options).bind(problem.graph, 4).double()
    x_dict = {key: x.detach().double().requires_grad_() for key, x in problem.x_dict.items()}
    names = [name for name, _ in method.named_parameters()]

    def loss(x_user, x_item, *weights) -> torch.Tensor:
        args = ({"user": x_user, "item": x_item}, problem.graph, problem.batch)
        return torch.func.functional_call(method, dict(zip(names, weights, strict=True)), args)

    assert torch.autograd.gradcheck(loss, (*x_dict.values(), *method.parameters()), fast_mode=True)
    expected = oracle(method, problem, arrays(x_dict))
    assert loss(*x_dict.values(), *method.parameters()).item() == pytest.approx(expected, rel=1e-12)


def test_views_of_all_entities(problem) -> None:
    edges = problem.graph[INTERACTS].edge_index
    alone = sorted(set(range(60)) - set(edges[1].tolist()))
    assert alone  # items without neighbours
    method = PersonalizedHintRegression(hidden=2).bind(problem.graph, 4)
    for node_type, found in (("user", method.user_view), ("item", method.item_view)):
        expected = np.stack([view(problem, node_type, e) for e in range(len(found))])
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    teacher = problem.graph["item"].teacher_x
    assert torch.equal(method.item_view[alone], teacher[alone])


def test_repeated_edges_count_once(problem) -> None:
    views = []
    for repeats in (1, 3):
        edges = problem.graph[INTERACTS].edge_index
        problem.graph[INTERACTS].edge_index = torch.cat([edges, edges[:, :5].repeat(1, repeats)], 1)
        method = PersonalizedHintRegression(hidden=2)
        method.setup(problem.graph, 4)
        views.append(method.user_view)
    torch.testing.assert_close(*views)


def test_only_the_unique_entities_of_the_batch_count(problem) -> None:
    batch = problem.batch
    method = PersonalizedHintRegression(hidden=5).bind(problem.graph, 4)
    once = method(problem.x_dict, problem.graph, batch)
    once.backward()
    twice = Batch(*(v.repeat(2) for v in (batch.user, batch.positive, batch.negative)))
    assert torch.equal(method(problem.x_dict, problem.graph, twice), once)
    for node_type, index in entities(batch).items():
        touched = problem.x_dict[node_type].grad.abs().sum(1).nonzero().flatten()
        assert touched.tolist() == index.tolist()


def test_widths_and_nets(problem) -> None:
    def shapes(**options: object) -> list[tuple[int, ...]]:
        method = PersonalizedHintRegression(**options).bind(problem.graph, 4)
        return [tuple(p.shape) for p in method.parameters()]

    assert shapes() == [(25, 10), (25,), (40, 25), (40,)]  # (10 + 10 * 4) // 2
    assert shapes(hidden=3) == [(3, 10), (3,), (40, 3), (40,)]
    assert shapes(hidden=3, shared=False) == 2 * shapes(hidden=3)


def test_gradients_reach_the_nets_of_their_kind_alone(problem) -> None:
    method = PersonalizedHintRegression(shared=False).bind(problem.graph, 4)
    user = problem.graph["user"].teacher_x
    problem.graph["user"].teacher_x = torch.zeros_like(user)
    problem.x_dict["user"].data.zero_()  # rebuilt without an error, whatever the net
    method(problem.x_dict, problem.graph, problem.batch).backward()
    reached = [any(bool(p.grad.any()) for p in net.parameters()) for net in method.nets]
    assert reached == [False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(problem, monkeypatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 100)
    method = PersonalizedHintRegression().bind(problem.graph, 4).float()
    x_dict = {key: x.detach().float().requires_grad_() for key, x in problem.x_dict.items()}
    results = []
    for enabled in (False, True):
        for x in (*x_dict.values(), *method.parameters()):
            x.grad = None
        with torch.autocast("cpu", dtype, enabled=enabled):
            loss = method(x_dict, problem.graph, problem.batch)
        loss.backward()
        grads = [x.grad for x in (*x_dict.values(), *method.parameters())]
        assert {v.dtype for v in (loss, *grads)} == {torch.float32}
        results.append([loss.detach(), *grads])
    for full, low in zip(*results, strict=True):
        error = ((full - low).norm() / full.norm()).item()
        # Products are rounded in bfloat16, and are not in float16, whose range is too small.
        assert 0 < error < 2e-2 if dtype == torch.bfloat16 else error == 0


@pytest.mark.parametrize("hidden", [0, -5])
def test_refused_options(hidden: int) -> None:
    with pytest.raises(ValueError, match=rf"'hidden' must be a positive integer \(got {hidden}\)"):
        PersonalizedHintRegression(hidden=hidden)
