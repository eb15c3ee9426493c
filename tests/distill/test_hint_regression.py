from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd import DistillationExperts, HintRegression
from pyg_kd.typing import Batch

NODES = ("user", "item")
PROJECTORS = ("linear", "mlp")


def array(x) -> np.ndarray:
    return x.detach().double().numpy()


def entities(batch: Batch) -> dict[str, np.ndarray]:
    items = np.unique(np.concatenate([batch.positive, batch.negative.flatten()]))
    return {"user": np.unique(batch.user), "item": items}


def oracle(method: HintRegression, problem, student: dict[str, np.ndarray]) -> float:
    """The loss, entity by entity."""
    total = 0.0
    for node_type in NODES:
        weights = [array(p) for p in method.projectors[node_type].parameters()]
        for e in entities(problem.batch)[node_type]:
            x = student[node_type][e]
            if len(weights) == 4:
                x = np.maximum(weights[0] @ x + weights[1], 0)
            t = array(problem.graph[node_type].teacher_x[e])
            total += ((t - weights[-2] @ x - weights[-1]) ** 2).sum()
    return float(total)


@pytest.mark.parametrize("projector", PROJECTORS)
def test_value_and_gradient(problem, projector: str) -> None:
    method = HintRegression(projector=projector).bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = {key: array(x) for key, x in problem.x_dict.items()}
    assert loss.item() == pytest.approx(oracle(method, problem, student), rel=1e-9)
    rng, step = np.random.default_rng(3), 1e-6
    way = {key: rng.standard_normal(x.shape) for key, x in student.items()}
    ahead, back = (
        oracle(method, problem, {key: x + sign * step * way[key] for key, x in student.items()})
        for sign in (1, -1)
    )
    found = sum((array(problem.x_dict[key].grad) * way[key]).sum() for key in NODES)
    assert found == pytest.approx((ahead - back) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("projector", PROJECTORS)
def test_gradient_of_the_projectors(problem, projector: str) -> None:
    method = HintRegression(projector=projector).bind(problem.graph, 4)
    method(problem.x_dict, problem.graph, problem.batch).backward()
    student = {key: array(x) for key, x in problem.x_dict.items()}
    for weight in method.parameters():
        entry, step = (0,) * weight.dim(), 2**-6
        values = []
        for move in (step, -2 * step):
            with torch.no_grad():
                weight[entry] += move
            values.append(oracle(method, problem, student))
        with torch.no_grad():
            weight[entry] += step
        slope = (values[0] - values[1]) / (2 * step)
        assert float(weight.grad[entry]) == pytest.approx(slope, rel=5e-2, abs=1e-2)


def test_shapes(problem) -> None:
    def shapes(projector: str) -> dict[str, tuple[int, ...]]:
        method = HintRegression(projector=projector).bind(problem.graph, 4)
        return {name.partition(".")[2]: tuple(p.shape) for name, p in method.named_parameters()}

    assert shapes("linear") == {
        "user.weight": (10, 4), "user.bias": (10,), "item.weight": (10, 4), "item.bias": (10,),
    }  # fmt: skip
    assert list(shapes("mlp").values()) == 2 * [(7, 4), (7,), (10, 7), (10,)]


def test_the_mlp_is_a_single_expert(problem) -> None:
    method = HintRegression(projector="mlp").bind(problem.graph, 4)
    experts = DistillationExperts(num_experts=1).bind(problem.graph, 4)
    with torch.no_grad():
        for node_type in NODES:
            net, expert = method.projectors[node_type], experts.mixture[node_type]
            for weight, theirs in ((net[0], expert.w1), (net[2], expert.w2)):
                theirs.copy_(weight.weight.t().unsqueeze(0))
            expert.b1.copy_(net[0].bias)
            expert.b2.copy_(net[2].bias)
    losses = [each(problem.x_dict, problem.graph, problem.batch) for each in (method, experts)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)


def test_unique_entities_count_once(problem) -> None:
    batch = problem.batch
    twice = Batch(*(v.repeat(2) for v in (batch.user, batch.positive, batch.negative)))
    method = HintRegression().bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, twice)
    loss.backward()
    student = {key: array(x) for key, x in problem.x_dict.items()}
    assert loss.item() == pytest.approx(oracle(method, problem, student), rel=1e-9)
    for node_type, index in entities(batch).items():
        touched = problem.x_dict[node_type].grad.abs().sum(1).nonzero().flatten()
        assert touched.tolist() == index.tolist()


def test_refused_options() -> None:
    message = r"'projector' must be one of \('linear', 'mlp'\) \(got 'cubic'\)"
    with pytest.raises(ValueError, match=message):
        HintRegression(projector="cubic")
