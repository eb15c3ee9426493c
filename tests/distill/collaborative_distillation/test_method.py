from __future__ import annotations

import math
from math import exp, log1p

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd import CollaborativeDistillation
from pyg_kd.typing import Batch
from tests.distill.slopes import arrays, slopes

#: Draws nothing but the best of the guide's ranking.
STEEP = {"num_sampled": 5, "rank_decay": 1e6}


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def oracle(method: CollaborativeDistillation, problem, batch: Batch, x_dict: dict) -> float:
    """The loss of the items that the method drew, one by one."""
    teacher = {key: problem.graph[key].teacher_x.double().numpy() for key in ("user", "item")}
    total, (t_1, t_2) = 0.0, method.target
    for u in sorted(set(batch.user.tolist())):
        for i in method.sampled[u].tolist():
            if i >= 0:
                q = sigmoid((float(teacher["user"][u] @ teacher["item"][i]) + t_2) / t_1)
                s = method.scale * float(x_dict["user"][u] @ x_dict["item"][i])
                total += q * log1p(exp(-s)) + (1 - q) * log1p(exp(s))
    return total


def best_unseen(problem, x_dict: dict, num: int) -> list[set[int]]:
    scores = (x_dict["user"] @ x_dict["item"].t()).detach().numpy()
    return [
        set([i for i in np.argsort(-scores[u]).tolist() if i not in problem.seen[u]][:num])
        for u in range(25)
    ]


def teacher_of(problem) -> dict[str, Tensor]:
    return {key: problem.graph[key].teacher_x for key in ("user", "item")}


@pytest.mark.parametrize("guide", ["student", "teacher"])
@pytest.mark.parametrize("target", [(2.0, 0.0), (0.7, -1.5)])
@pytest.mark.parametrize("num_candidates", [20, None])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_value_and_gradient(problem, guide: str, target, num_candidates, scale) -> None:
    method = CollaborativeDistillation(
        num_sampled=20, guide=guide, target=target, num_candidates=num_candidates, scale=scale
    ).bind(problem.graph, 4)
    method.on_epoch_start(0, 1, problem.x_dict)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    assert loss.item() == pytest.approx(oracle(method, problem, problem.batch, student), rel=1e-9)
    found, expected = slopes(lambda at: oracle(method, problem, problem.batch, at), problem.x_dict)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_soft_label_is_what_the_student_ends_at(problem) -> None:
    # A student of the teacher's scores over t_1 fits as well as can be: no gradient.
    method = CollaborativeDistillation(scale=0.5, target=(2.0, 0.0)).bind(problem.graph, 10)
    x_dict = {k: x.clone().requires_grad_() for k, x in teacher_of(problem).items()}
    method(x_dict, problem.graph, problem.batch).backward()
    assert all(float(x.grad.abs().max()) < 1e-5 for x in x_dict.values())


def test_only_users_of_the_batch_and_their_items_learn(problem) -> None:
    method = CollaborativeDistillation(num_sampled=3).bind(problem.graph, 4)
    method(problem.x_dict, problem.graph, problem.batch).backward()
    users = problem.batch.user.unique()
    learning = {k: x.grad.abs().sum(1).nonzero().squeeze(1) for k, x in problem.x_dict.items()}
    assert torch.equal(learning["user"], users)
    assert torch.equal(learning["item"], method.sampled[users].unique().long())


@pytest.mark.parametrize("guide", ["student", "teacher"])
def test_the_guide_ranks(problem, guide: str) -> None:
    method = CollaborativeDistillation(**STEEP, guide=guide).bind(problem.graph, 4)
    by_teacher = best_unseen(problem, teacher_of(problem), 5)
    by_student = best_unseen(problem, problem.x_dict, 5)
    assert by_teacher != by_student
    assert [set(row) for row in method.sampled.tolist()] == by_teacher  # before any epoch
    method.on_epoch_start(0, 3, problem.x_dict)
    expected = by_student if guide == "student" else by_teacher
    assert [set(row) for row in method.sampled.tolist()] == expected
    # The student moves on.
    moved = {key: -x for key, x in problem.x_dict.items()}
    moved["item"] = -moved["item"]
    method.on_epoch_start(1, 3, moved)
    if guide == "student":
        expected = best_unseen(problem, moved, 5)
    assert [set(row) for row in method.sampled.tolist()] == expected


def test_a_guiding_student_is_asked_for(problem) -> None:
    method = CollaborativeDistillation(**STEEP).bind(problem.graph, 4)
    with pytest.raises(TypeError, match=r"CollaborativeDistillation follows the student.*x_dict="):
        method.on_epoch_start(1, 3)
    CollaborativeDistillation(**STEEP, guide="teacher").bind(problem.graph, 4).on_epoch_start(1, 3)


def test_a_student_without_preferences_draws_uniformly(problem) -> None:
    method = CollaborativeDistillation(**STEEP).bind(problem.graph, 4)
    nobody = {key: torch.zeros_like(x) for key, x in problem.x_dict.items()}
    count = np.zeros(60)
    for epoch in range(200):
        method.on_epoch_start(epoch, 200, nobody)
        np.add.at(count, method.sampled[0].tolist(), 1)
    left = [i for i in range(60) if i not in problem.seen[0]]
    share = 5 / len(left)
    assert count.sum() == count[left].sum() == 1000
    assert (np.abs(count[left] - 200 * share) < 5 * (200 * share * (1 - share)) ** 0.5).all()


@pytest.mark.parametrize("guide", ["student", "teacher"])
def test_items_are_drawn_anew(problem, guide: str) -> None:
    method = CollaborativeDistillation(num_sampled=5, guide=guide).bind(problem.graph, 4)
    before = method.sampled.clone()
    method.on_epoch_start(1, 2, problem.x_dict)
    assert not torch.equal(before, method.sampled)
    for user, drawn in enumerate(method.sampled.tolist()):
        assert len(set(drawn)) == 5 and min(drawn) >= 0 and not problem.seen[user] & set(drawn)


def test_fewer_unseen_items_than_asked_for(problem) -> None:
    method = CollaborativeDistillation(num_sampled=80).bind(problem.graph, 4)
    assert method.sampled.shape == (25, 60)
    for user, drawn in enumerate(method.sampled.tolist()):
        assert sorted(i for i in drawn if i >= 0) == sorted(set(range(60)) - problem.seen[user])
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    expected = oracle(method, problem, problem.batch, arrays(problem.x_dict))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert all(bool(x.grad.isfinite().all()) for x in problem.x_dict.values())


def test_users_without_items_contribute_nothing(problem) -> None:
    user = int(problem.batch.user[0])
    method = CollaborativeDistillation().bind(problem.graph, 4)
    method.sampled[user] = -1
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    expected = oracle(method, problem, problem.batch, arrays(problem.x_dict))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert not problem.x_dict["user"].grad[user].any()


def test_large_scores_stay_finite(problem) -> None:
    method = CollaborativeDistillation().bind(problem.graph, 4)
    x_dict = {k: (x.detach() * 100).requires_grad_() for k, x in problem.x_dict.items()}
    loss = method(x_dict, problem.graph, problem.batch)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(x.grad.isfinite().all()) for x in x_dict.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guide": "both"}, r"'guide' must be one of \('student', 'teacher'\) \(got 'both'\)"),
        ({"num_sampled": 0}, r"'num_sampled' must be a positive integer \(got 0\)"),
        ({"rank_decay": 0.0}, "'rank_decay'.*0.0"),
        ({"target": (0.0, 1.0)}, r"'target\[0\]' must be positive \(got 0.0\)"),
        ({"target": (1.0,)}, r"'target'.*\(1.0,\)"),
        ({"target": 2.0}, r"'target' must be two numbers \(got 2.0\)"),
        ({"target": (2.0, math.nan)}, r"'target\[1\]' must be finite \(got nan\)"),
        ({"num_candidates": 49}, r"'num_candidates' must be an integer of 50 or more \(got 49\)"),
        ({"scale": 0.0}, "'scale'.*0.0"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CollaborativeDistillation(**options)
