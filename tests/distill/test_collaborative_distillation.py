from __future__ import annotations

import math
from math import exp, log1p

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd import CollaborativeDistillation
from pyg_kd.distill import collaborative_distillation
from pyg_kd.distill.collaborative_distillation import RankSampler
from pyg_kd.graph import Neighbors, sorted_neighbors
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
@pytest.mark.parametrize("num_candidates", [20, 1000])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_value_and_gradient(problem, guide: str, target, num_candidates: int, scale) -> None:
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
    method = CollaborativeDistillation(num_sampled=80, num_candidates=80).bind(problem.graph, 4)
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


def same_seen(num_users: int, seen: list[int]) -> Neighbors:
    """The same history for every user."""
    ptr = torch.arange(num_users + 1) * len(seen)
    return Neighbors(ptr, torch.tensor(sorted(seen), dtype=torch.long).repeat(num_users))


def in_order(num_users: int, order: list[int]) -> dict[str, Tensor]:
    """Representations by which every user ranks items in this order."""
    x_item = torch.empty(len(order), 1)
    x_item[torch.tensor(order), 0] = -torch.arange(float(len(order)))
    return {"user": torch.ones(num_users, 1), "item": x_item}


def law(num_ranked: int, num_items: int, decay: float) -> np.ndarray:
    p = np.array([exp(-decay * r / num_items) for r in range(num_ranked)])
    return p / p.sum()


def within(count: np.ndarray, num: int, p: np.ndarray, rel: float = 0.0) -> bool:
    """Whether counts are within five sigmas of their expectation, and a relative error."""
    return bool((np.abs(count - num * p) < 5 * np.sqrt(num * p * (1 - p)) + rel * num * p).all())


@pytest.mark.parametrize("num_candidates", [12, 1000])
def test_the_law_is_exact_where_all_items_are_candidates(num_candidates: int) -> None:
    num_users, num_items, seen, decay = 20_000, 12, [3, 0, 7], 4.0
    order = np.random.default_rng(0).permutation(num_items).tolist()
    sampler = RankSampler(same_seen(num_users, seen), num_items, num_candidates)
    drawn = sampler.draw(in_order(num_users, order), 1, decay=decay)
    assert drawn.shape == (num_users, 1) and drawn.dtype == torch.int32
    ranked = [i for i in order if i not in seen]
    count = np.bincount(drawn.flatten(), minlength=num_items)
    assert count.sum() == count[ranked].sum() == num_users
    assert within(count[ranked], num_users, law(len(ranked), num_items, decay))


def test_several_are_drawn_one_after_another() -> None:
    num_users, num_items, decay, num = 20_000, 10, 6.0, 3
    sampler = RankSampler(same_seen(num_users, []), num_items, num_items)
    drawn = sampler.draw(in_order(num_users, list(range(num_items))), num, decay=decay)
    assert bool((drawn.sort(dim=1).values.diff(dim=1) > 0).all())  # nothing twice
    rng, expected = np.random.default_rng(0), np.zeros(num_items)
    p = law(num_items, num_items, decay)
    for _ in range(20_000):
        expected[rng.choice(num_items, num, replace=False, p=p)] += 1 / 20_000
    found = np.bincount(drawn.flatten(), minlength=num_items) / num_users
    sigma = np.sqrt(expected * (1 - expected) * 2 / 20_000)
    assert (np.abs(found - expected) < 5 * sigma + 1e-4).all()


def test_without_a_ranking_all_are_as_likely() -> None:
    num_users, seen = 20_000, [1, 4]
    sampler = RankSampler(same_seen(num_users, seen), 9, 100)
    count = np.bincount(sampler.draw(None, 2, decay=5.0).flatten(), minlength=9)
    assert count[seen].sum() == 0
    assert within(count[[0, 2, 3, 5, 6, 7, 8]], num_users, np.full(7, 2 / 7))


@pytest.mark.parametrize(("num_items", "width"), [(30, 30), (31, 30), (47, 30), (400, 30)])
def test_candidates_are_distinct_and_equally_likely(num_items: int, width: int) -> None:
    sampler = RankSampler(same_seen(1, []), num_items, width)
    num = 3_000
    drawn = np.stack([sampler._candidates().numpy() for _ in range(num)])
    assert all(len(set(row)) == width for row in drawn.tolist())
    count = np.bincount(drawn.flatten(), minlength=num_items)
    share = width / num_items
    assert (np.abs(count - num * share) <= 5 * (num * share * (1 - share)) ** 0.5).all()


def test_estimated_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    num_users, num_items, width, decay, seen = 6_000, 300, 40, 5.0, list(range(0, 300, 7))
    monkeypatch.setattr(
        collaborative_distillation, "BLOCK_ENTRIES", width
    )  # candidates of one's own
    order = np.random.default_rng(0).permutation(num_items).tolist()
    sampler = RankSampler(same_seen(num_users, seen), num_items, width)
    assert len(sampler.starts) == num_users + 1
    drawn = sampler.draw(in_order(num_users, order), 1, decay=decay).flatten().tolist()
    ranked = [i for i in order if i not in seen]
    true_rank = {item: r for r, item in enumerate(ranked)}
    assert set(drawn) <= set(true_rank)
    tenth = len(ranked) / 10
    bucket = np.array([int(r / tenth) for r in range(len(ranked))])
    count = np.bincount(bucket[[true_rank[i] for i in drawn]], minlength=10)
    # The same estimate, with candidates drawn without any order, again and again.
    rng, expected = np.random.default_rng(1), np.zeros(10)
    for _ in range(6_000):
        candidates = set(rng.choice(num_items, width, replace=False).tolist())
        better = [r for r, item in enumerate(ranked) if item in candidates]
        p = [exp(-decay * j * len(ranked) / len(better) / num_items) for j in range(len(better))]
        np.add.at(expected, bucket[better], np.array(p) / sum(p) / 6_000)
    assert within(count, num_users, expected, rel=0.02)
    # And that is close to the law of the true ranks.
    exact = np.bincount(bucket, weights=law(len(ranked), num_items, decay))
    assert within(count, num_users, exact, rel=0.15)


def random_seen(num_users: int, num_items: int, share: float) -> tuple[Neighbors, list[set[int]]]:
    pairs = np.argwhere(np.random.default_rng(0).random((num_users, num_items)) < share)
    seen = sorted_neighbors(*torch.from_numpy(pairs.T.copy()), num_users, num_items)
    return seen, [set(pairs[pairs[:, 0] == u, 1].tolist()) for u in range(num_users)]


@pytest.mark.parametrize("num_candidates", [10, 40])
def test_blocks_keep_to_their_own_users(monkeypatch, num_candidates: int) -> None:
    monkeypatch.setattr(collaborative_distillation, "BLOCK_ENTRIES", 70)
    seen, sets = random_seen(50, 40, 0.4)
    x_dict = {"user": torch.randn(50, 3), "item": torch.randn(40, 3)}
    sampler = RankSampler(seen, 40, num_candidates)
    assert len(sampler.starts) > 5
    for _ in range(5):
        for user, drawn in enumerate(sampler.draw(x_dict, 5, decay=2.0).tolist()):
            items = [i for i in drawn if i >= 0]
            assert len(set(items)) == len(items) and not sets[user] & set(items)
            assert len(items) == 5 or num_candidates == 10


def test_a_steep_law_takes_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collaborative_distillation, "BLOCK_ENTRIES", 100)
    seen, sets = random_seen(20, 40, 0.3)
    x_dict = {"user": torch.randn(20, 3), "item": torch.randn(40, 3)}
    drawn = RankSampler(seen, 40, 40).draw(x_dict, 4, decay=1e6)
    scores = (x_dict["user"] @ x_dict["item"].t()).numpy()
    for user in range(20):
        best = [i for i in np.argsort(-scores[user]).tolist() if i not in sets[user]][:4]
        assert sorted(drawn[user].tolist()) == sorted(best)


def test_padding() -> None:
    seen = sorted_neighbors(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 0, 1]), 3, 3)
    x_dict = {"user": torch.randn(3, 2), "item": torch.randn(3, 2)}
    drawn = RankSampler(seen, 3, 1000).draw(x_dict, 7, decay=1.0)
    assert [sorted(row) for row in drawn.tolist()] == [[-1, -1, -1], [-1, -1, 2], [0, 1, 2]]
