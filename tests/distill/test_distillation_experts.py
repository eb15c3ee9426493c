from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pyg_kd import DistillationExperts
from pyg_kd.typing import Batch

NODES = ("user", "item")


def array(x) -> np.ndarray:
    return x.detach().double().numpy()


def oracle(
    method: DistillationExperts, problem, noise: list[np.ndarray]
) -> Callable[[dict], float]:
    """The loss as a function of the student, entity by entity and expert by expert."""
    batch = problem.batch
    parts = [
        (1.0, "user", np.unique(batch.user)),
        (1.0, "item", np.unique(np.concatenate([batch.positive, batch.negative]))),
    ]
    if method.variant == "reference":
        parts[1:] = [
            (0.5, "item", np.unique(batch.positive)),
            (0.5, "item", np.unique(batch.negative)),
        ]

    def loss(student: dict[str, np.ndarray]) -> float:
        total = 0.0
        for (weight, node_type, entities), exponential in zip(parts, noise, strict=True):
            net = method.mixture[node_type]
            w, b = array(net.selection.weight), array(net.selection.bias)
            w1, b1, w2, b2 = (array(v) for v in (net.w1, net.b1, net.w2, net.b2))
            for row, e in enumerate(entities):
                t, s = array(problem.graph[node_type].teacher_x[e]), student[node_type][e]
                logit = w @ t + b
                alpha = np.exp(logit - logit.max())
                alpha /= alpha.sum()
                value = (np.log(alpha) - np.log(exponential[row])) / method.tau
                z = np.exp(value - value.max())
                z /= z.sum()
                z[z < 1e-6] = 0  # they are skipped
                rebuilt = sum(
                    z[m] * (np.maximum(s @ w1[m] + b1[m], 0) @ w2[m] + b2[m]) for m in range(len(z))
                )
                total += weight * ((t - rebuilt) ** 2).sum()
        return total

    return loss


def slope(loss: Callable[[dict], float], x_dict, step: float = 1e-6) -> tuple[float, dict]:
    """The derivative of an oracle along a random direction, and the direction."""
    rng = np.random.default_rng(3)
    way = {key: rng.standard_normal(x.shape) for key, x in x_dict.items()}
    ahead, back = (
        loss({key: array(x) + sign * step * way[key] for key, x in x_dict.items()})
        for sign in (1, -1)
    )
    return (ahead - back) / (2 * step), way


@pytest.mark.parametrize("tau", [1.0, 0.3, 1e-10])
@pytest.mark.parametrize("num_experts", [1, 7])
@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_value_and_gradient(problem, exponential_draws, variant, num_experts, tau) -> None:
    method = DistillationExperts(num_experts=num_experts, temperature=tau, variant=variant)
    method.bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    assert len(exponential_draws) == (2 if variant == "paper" else 3)
    expected = oracle(method, problem, exponential_draws)
    x_dict = problem.x_dict
    student = {key: array(x) for key, x in x_dict.items()}
    assert loss.item() == pytest.approx(expected(student), rel=1e-9)
    derivative, way = slope(expected, x_dict)
    found = sum((array(x_dict[key].grad) * way[key]).sum() for key in NODES)
    assert found == pytest.approx(derivative, rel=1e-6)


def test_gradient_of_the_selection_net(problem, exponential_draws) -> None:
    method = DistillationExperts(num_experts=5).bind(problem.graph, 4)
    method(problem.x_dict, problem.graph, problem.batch).backward()
    expected = oracle(method, problem, exponential_draws)
    student = {key: array(x) for key, x in problem.x_dict.items()}
    bias = method.mixture["item"].selection.bias
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            bias[2] += sign * 0.01 if sign > 0 else -0.02
        values.append(expected(student))
    assert float(bias.grad[2]) == pytest.approx((values[0] - values[1]) / 0.02, rel=1e-2)


def test_annealing() -> None:
    method = DistillationExperts(temperature=(2.0, 0.5))
    assert method.tau == 2.0
    seen = []
    for epoch in range(4):
        method.on_epoch_start(epoch, 4)
        seen.append(method.tau)
    assert seen == pytest.approx([2 * (0.5 / 2) ** (p / 4) for p in range(4)])


def test_the_reference_anneals_one_epoch_later() -> None:
    method, seen = DistillationExperts(variant="reference", temperature=(2.0, 0.5)), []
    for epoch in range(4):
        method.on_epoch_start(epoch, 4)
        seen.append(method.tau)
    assert seen == pytest.approx([2 * (0.5 / 2) ** (p / 4) for p in (0, 0, 1, 2)])


def test_default_annealing_ends_at_one_expert(problem) -> None:
    method = DistillationExperts(num_experts=3).bind(problem.graph, 4)
    assert method.temperature == (1.0, 1e-10) and method.tau == 1.0
    method.on_epoch_start(50, 100)
    assert method.tau == pytest.approx(1e-5)


def test_noise_is_fresh_at_every_forward(problem) -> None:
    method = DistillationExperts(num_experts=5).bind(problem.graph, 4)
    a, b = (float(method(problem.x_dict, problem.graph, problem.batch).detach()) for _ in range(2))
    assert a != b


@pytest.mark.parametrize("num_experts", [1, 3])
def test_a_draw_of_exactly_zero(problem, monkeypatch, num_experts: int) -> None:
    # One number in 2^24 is: the noise would be infinite.
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    method = DistillationExperts(num_experts=num_experts).bind(problem.graph, 4)
    method(problem.x_dict, problem.graph, problem.batch).backward()
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters())


def test_an_expert_is_chosen_as_often_as_its_weight(problem) -> None:
    # At a temperature near 0 the draw is one of the selection net's distribution.
    method = DistillationExperts(num_experts=3, temperature=(1e-6, 1e-6)).bind(problem.graph, 4)
    mixture = method.mixture["user"]
    with torch.no_grad():
        mixture.w2.zero_()
        mixture.b2.copy_(torch.arange(3.0).unsqueeze(1).expand(3, 10))
    teacher = problem.graph["user"].teacher_x[:1].expand(20_000, -1)
    rebuilt = mixture(torch.zeros(20_000, 4), teacher, method.tau)
    share = torch.bincount(rebuilt[:, 0].round().long(), minlength=3) / 20_000
    expected = mixture.selection(teacher[0]).softmax(0)
    assert (share - expected).abs().max().item() < 5 * (0.25 / 20_000) ** 0.5


def test_hidden_width(problem) -> None:
    def hidden(dim: int) -> int:
        method = DistillationExperts(num_experts=2).bind(problem.graph, dim)
        return method.mixture["user"].w1.size(2)

    assert [hidden(4), hidden(7), hidden(10)] == [7, 8, 5]


def test_shapes_and_separate_nets(problem) -> None:
    method = DistillationExperts(num_experts=3).bind(problem.graph, 4)
    shapes = {name: tuple(p.shape) for name, p in method.named_parameters()}
    for node_type in NODES:
        prefix = f"mixture.{node_type}."
        assert {k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)} == {
            "w1": (3, 4, 7), "b1": (3, 7), "w2": (3, 7, 10), "b2": (3, 10),
            "selection.weight": (3, 10), "selection.bias": (3,),
        }  # fmt: skip
    assert len(shapes) == 12


def test_group_is_the_preferred_expert_without_gradient(problem) -> None:
    method = DistillationExperts(num_experts=6).bind(problem.graph, 4)
    teacher = problem.graph["item"].teacher_x
    net = method.mixture["item"].selection
    expected = (array(teacher) @ array(net.weight).T + array(net.bias)).argmax(1)
    group = method.group("item", teacher)
    assert group.tolist() == expected.tolist() and not group.requires_grad


def test_unique_entities_count_once(problem, exponential_draws) -> None:
    batch = problem.batch
    twice = Batch(*(v.repeat(2) for v in (batch.user, batch.positive, batch.negative)))
    method = DistillationExperts(num_experts=2).bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, twice)
    student = {key: array(x) for key, x in problem.x_dict.items()}
    expected = oracle(method, problem, exponential_draws)
    assert loss.item() == pytest.approx(expected(student), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_experts": 0}, r"'num_experts' must be a positive integer \(got 0\)"),
        ({"temperature": (1.0,)}, r"'temperature' must be one or two .* \(got \(1.0,\)\)"),
        ({"temperature": "low"}, r"'temperature' must be one or two .* \(got 'low'\)"),
        ({"temperature": 0.0}, r"'temperature' must be one or two .* \(got 0.0\)"),
        ({"temperature": (1.0, 0.0)}, r"'temperature'.*\(1.0, 0.0\)"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationExperts(**options)
