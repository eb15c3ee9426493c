from __future__ import annotations

from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
import torch

from pyg_kd import DualCorrection
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.typing import Batch
from tests.distill.slopes import arrays, slopes

SMALL = {"num_underestimated": 4, "num_overestimated": 3}
WIDTH = 12


@pytest.fixture
def problem(problem):
    """With a ranking of 12 users for every item."""
    rng = np.random.default_rng(1)
    fans = [{u for u in range(25) if i in problem.seen[u]} for i in range(60)]
    problem.ranked_users = np.stack(
        [rng.permutation(sorted(set(range(25)) - own))[:WIDTH] for own in fans]
    )
    problem.graph["item"].teacher_users = torch.from_numpy(problem.ranked_users).to(torch.int32)
    return problem


def list_loss(scores: list[float], tail: list[float]) -> float:
    total = 0.0
    for k in range(len(scores)):
        below = sum(map(exp, scores[k:])) + sum(map(exp, tail))
        total -= log(exp(scores[k]) / below)
    return total


def oracle(method: DualCorrection, batch: Batch, student: dict[str, np.ndarray]) -> float:
    """The loss of the lists that the method drew, side by side and place by place."""
    sides = {
        "user": (batch.user, "item", 1.0),
        "item": (batch.positive, "user", method.item_weight),
    }
    total = 0.0
    for side, (rows, other, weight) in sides.items():
        if method.sides not in ("both", side):
            continue
        lists, num = method.side(side).lists, method.side(side).parts[0]
        for row in sorted(set(rows.tolist())):
            parts = lists[row, :num].tolist(), lists[row, num:].tolist()
            listed, tail = (
                [method.scale * float(student[side][row] @ student[other][c]) for c in p if c >= 0]
                for p in parts
            )
            total += weight * list_loss(listed, tail)
    return total


@pytest.mark.parametrize("sides", ["both", "user", "item"])
@pytest.mark.parametrize("sizes", [(4, 3), (1, 1), (40, 40)])
@pytest.mark.parametrize(("scale", "item_weight"), [(1.0, 1.0), (5.0, 0.25)])
def test_value_and_gradient(problem, sides, sizes, scale, item_weight) -> None:
    method = DualCorrection(
        num_underestimated=sizes[0],
        num_overestimated=sizes[1],
        sides=sides,
        scale=scale,
        item_weight=item_weight,
    ).bind(problem.graph, 4)
    method.on_epoch_start(0, 3, {key: x.detach() for key, x in problem.x_dict.items()})
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    assert loss.item() == pytest.approx(oracle(method, problem.batch, student), rel=1e-9)
    found, expected = slopes(lambda at: oracle(method, problem.batch, at), problem.x_dict)
    assert found == pytest.approx(expected, rel=1e-6)


def misjudged(problem, side: str, row: int) -> tuple[set[int], set[int]]:
    """What the student ranks too low, and too high, in the teacher's list of one row."""
    student, other = arrays(problem.x_dict), "item" if side == "user" else "user"
    listed = (problem.ranked if side == "user" else problem.ranked_users)[row].tolist()
    scores = {c: student[side][row] @ student[other][c] for c in listed}
    order = sorted(listed, key=lambda c: -scores[c])
    gap = {c: order.index(c) - listed.index(c) for c in listed}
    return {c for c in listed if gap[c] > 0}, {c for c in listed if gap[c] < 0}


@pytest.mark.parametrize("side", ["user", "item"])
def test_lists_correct_the_student(problem, side) -> None:
    method = DualCorrection(num_underestimated=40, num_overestimated=40).bind(problem.graph, 4)
    method.on_epoch_start(0, 1, problem.x_dict)
    ranked = problem.ranked if side == "user" else problem.ranked_users
    for row, drawn in enumerate(method.side(side).lists.tolist()):
        low, high = misjudged(problem, side, row)
        teacher = ranked[row].tolist()
        assert low and high
        num = method.side(side).parts[0]
        assert [c for c in drawn[:num] if c >= 0] == sorted(low, key=teacher.index)
        assert {c for c in drawn[num:] if c >= 0} == high


def test_nothing_to_correct_in_a_student_that_agrees(problem) -> None:
    graph = problem.graph
    x_user, x_item = torch.eye(25), torch.zeros(60, 25)
    for user, items in enumerate(problem.ranked.tolist()):
        x_item[items, user] = torch.linspace(1, 0, len(items))
    method = DualCorrection(sides="user").bind(graph, 25)
    method.on_epoch_start(0, 1, {"user": x_user, "item": x_item})
    loss = method({"user": x_user, "item": x_item}, graph, problem.batch)
    assert loss.item() == 0 and bool((method.side("user").lists == -1).all())


def test_ranks_are_kept_for_some_epochs(problem) -> None:
    method = DualCorrection(**SMALL, refresh_every=3).bind(problem.graph, 4)
    seen = [method.side("user").ranks.clone()]
    lists = []
    for epoch in range(7):
        x_dict = {key: torch.randn(x.shape) for key, x in problem.x_dict.items()}
        method.on_epoch_start(epoch, 7, x_dict)
        seen.append(method.side("user").ranks.clone())
        lists.append(method.side("user").lists)
    changed = [not torch.equal(a, b) for a, b in pairwise(seen)]
    assert changed == [epoch % 3 == 0 for epoch in range(7)]
    assert not any(torch.equal(a, b) for a, b in pairwise(lists))


def test_before_the_first_refresh_lists_are_taken_as_reversed(problem) -> None:
    method = DualCorrection(num_underestimated=40, num_overestimated=40).bind(problem.graph, 4)
    for _ in range(2):
        for side, ranked in (("user", problem.ranked), ("item", problem.ranked_users)):
            num, half = method.side(side).parts[0], ranked.shape[1] // 2
            for row, drawn in enumerate(method.side(side).lists.tolist()):
                teacher = ranked[row].tolist()
                assert [c for c in drawn[:num] if c >= 0] == teacher[:half]
                assert {c for c in drawn[num:] if c >= 0} == set(teacher[half:])
        method.on_epoch_start(0, 2)  # without a student


def test_num_ranked_cuts_the_lists(problem) -> None:
    method = DualCorrection(**SMALL, num_ranked=6).bind(problem.graph, 4)
    method.on_epoch_start(0, 1, problem.x_dict)
    for side, ranked in (("user", problem.ranked), ("item", problem.ranked_users)):
        for row, drawn in enumerate(method.side(side).lists.tolist()):
            assert {c for c in drawn if c >= 0} <= set(ranked[row, :6].tolist())


def test_only_the_batch_and_its_lists_learn(problem) -> None:
    method = DualCorrection(**SMALL).bind(problem.graph, 4)
    batch = Batch(*(getattr(problem.batch, n)[:2] for n in ("user", "positive", "negative")))
    method(problem.x_dict, problem.graph, batch).backward()
    learning = {k: x.grad.abs().sum(1).nonzero().squeeze(1) for k, x in problem.x_dict.items()}
    for side, other, rows in (("user", "item", batch.user), ("item", "user", batch.positive)):
        listed = method.side(other).lists[batch.positive if side == "user" else batch.user]
        assert set(learning[side].tolist()) == set(rows.tolist()) | set(listed.flatten().tolist())


def test_rows_without_a_ranking_and_short_ones(problem) -> None:
    user, item = int(problem.batch.user[0]), int(problem.batch.positive[0])
    problem.graph["user"].teacher_items[user] = -1
    problem.graph["item"].teacher_users[item] = -1
    problem.graph["user"].teacher_items[::2, 3:] = -1
    method = DualCorrection(**SMALL).bind(problem.graph, 4)
    alone = Batch(problem.batch.user[:1], problem.batch.positive[:1], problem.batch.negative[:1])
    for epoch in range(2):
        method.on_epoch_start(epoch, 2, problem.x_dict)
        loss = method(problem.x_dict, problem.graph, problem.batch)
        expected = oracle(method, problem.batch, arrays(problem.x_dict))
        assert loss.item() == pytest.approx(expected, rel=1e-9)
        assert method(problem.x_dict, problem.graph, alone).item() == 0
    loss.backward()
    assert all(bool(x.grad.isfinite().all()) for x in problem.x_dict.values())


@pytest.mark.parametrize("side", ["user", "item"])
def test_one_side_needs_its_ranking_alone(problem, side) -> None:
    other, name = ("item", "teacher_users") if side == "user" else ("user", "teacher_items")
    del problem.graph[other][name]
    method = DualCorrection(**SMALL, sides=side).bind(problem.graph, 4)
    assert bool(method(problem.x_dict, problem.graph, problem.batch).isfinite())
    with pytest.raises(ValueError, match=name):
        DualCorrection(**SMALL).bind(problem.graph, 4)
    assert DualCorrection.needs == ("teacher_items", "teacher_users")


def test_a_run_continues_to_the_same_bits_between_refreshes(tmp_path) -> None:
    data = SyntheticInteractions(num_users=40, num_items=30, num_edges=300)[0]
    torch.manual_seed(0)
    graph = extract_knowledge(MF(data, dim=8), data, num_items=12, num_users=10)

    def fit(folder: str, interrupt: bool, resume: bool) -> MF:
        torch.manual_seed(1)
        model, epochs = MF(graph, dim=4), 0

        def evaluator(*_) -> dict[str, float]:
            nonlocal epochs
            epochs += 1
            if interrupt and epochs == 3:  # the second epoch is the last one saved
                raise KeyboardInterrupt
            return {"recall@20": 0.0}

        trainer = Trainer(
            max_epochs=5, batch_size=64, accelerator="cpu", progress=False, patience=None,
            restore_best=False, evaluator=evaluator, checkpoint_dir=tmp_path / folder,
        )  # fmt: skip
        trainer.fit(
            model, graph, val_data=graph, distillations=[(DualCorrection(**SMALL), 0.1)],
            resume=resume,
        )  # fmt: skip
        return model

    whole = fit("whole", False, False)
    with pytest.raises(KeyboardInterrupt):
        fit("part", True, False)
    again = fit("part", False, True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": "none"}, r"'sides' must be one of \('both', 'user', 'item'\) \(got 'none'\)"),
        ({"num_underestimated": 0}, r"'num_underestimated' must be a positive integer \(got 0\)"),
        ({"num_overestimated": 0}, "'num_overestimated'.*0"),
        ({"epsilon": 0.0}, "'epsilon'.*0.0"),
        ({"refresh_every": 0}, "'refresh_every'.*0"),
        ({"num_ranked": 0}, "'num_ranked'.*0"),
        ({"scale": 0.0}, "'scale'.*0.0"),
        ({"item_weight": float("nan")}, "'item_weight'.*nan"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DualCorrection(**options)


def test_repr() -> None:
    assert repr(DualCorrection(sides="user", num_ranked=50)) == (
        "DualCorrection(40, 40, epsilon=0.01, refresh_every=3, num_ranked=50, scale=1.0, "
        "sides='user', item_weight=1.0)"
    )
