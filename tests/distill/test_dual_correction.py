from __future__ import annotations

from itertools import pairwise, permutations
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd import DualCorrection
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.distill import dual_correction
from pyg_kd.distill.dual_correction import RankCorrections
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.typing import Batch
from tests.distill.slopes import arrays, slopes
from tests.distill.sure import sure_items, unsure

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


def list_loss(scores: list[float], tail: list[float], weight: list[float]) -> float:
    total = 0.0
    for k in range(len(scores)):
        below = sum(map(exp, scores[k:])) + sum(map(exp, tail))
        total -= weight[k] * log(exp(scores[k]) / below)
    return total


def oracle(method: DualCorrection, problem, student: dict[str, np.ndarray]) -> float:
    """The loss of the lists that the method drew, side by side and place by place."""
    batch = problem.batch
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
            sure = [1.0] * num
            if side == "user":
                sure = [sure_items(problem, row)[c] for c in parts[0] if c >= 0]
            total += weight * list_loss(listed, tail, sure)
    return total


@pytest.mark.parametrize("sides", ["both", "user", "item"])
@pytest.mark.parametrize("sizes", [(4, 3), (1, 1), (40, 40)])
@pytest.mark.parametrize(("scale", "item_weight"), [(1.0, 1.0), (5.0, 0.25)])
@pytest.mark.parametrize("sure", [True, False])
def test_value_and_gradient(problem, sides, sizes, scale, item_weight, sure) -> None:
    problem = problem if sure else unsure(problem)
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
    assert loss.item() == pytest.approx(oracle(method, problem, student), rel=1e-9)
    found, expected = slopes(lambda at: oracle(method, problem, at), problem.x_dict)
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
        method.draw()  # still without a student


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
        expected = oracle(method, problem, arrays(problem.x_dict))
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
        model = MF(graph, dim=4)

        def stop(epoch: int, *_) -> None:
            if interrupt and epoch == 2:  # the second epoch is the last one saved
                raise KeyboardInterrupt

        trainer = Trainer(
            max_epochs=5, batch_size=64, accelerator="cpu", progress=False, patience=None,
            restore_best=False, checkpoint_dir=tmp_path / folder,
        )  # fmt: skip
        trainer.fit(
            model, graph, distillations=[(DualCorrection(**SMALL), 0.1)], callbacks=[stop],
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


ROWS, COLS, WIDTH, DIM = 9, 20, 12, 3


@pytest.fixture
def ranked() -> Tensor:
    """Rankings; the first row has none, the second a short one."""
    rng = np.random.default_rng(0)
    table = np.stack([rng.permutation(COLS)[:WIDTH] for _ in range(ROWS)])
    table[0], table[1, 4:] = -1, -1
    return torch.from_numpy(table).to(torch.int32)


def student(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, DIM, generator=generator) for n in (ROWS, COLS))


def ranks_of(listed: list[int], scores: np.ndarray) -> list[int]:
    """The student's rank of every listed column; of equals, the teacher's last comes first."""
    order = sorted(range(len(listed)), key=lambda r: (-scores[listed[r]], -r))
    return [order.index(r) for r in range(len(listed))]


@pytest.mark.parametrize("entries", [2**19, 30, 1])
@pytest.mark.parametrize("tied", [False, True])
def test_ranks(ranked, entries, tied, monkeypatch):
    monkeypatch.setattr(dual_correction, "BLOCK_ENTRIES", entries)
    x_row, x_col = student()
    if tied:
        x_col[::2] = x_col[0]
    corrections = RankCorrections(ranked, 3, 3, 0.1)
    corrections.refresh(x_row, x_col)
    scores = x_row.double().numpy() @ x_col.double().numpy().T
    ranks = corrections.ranks.view(ROWS, WIDTH)
    for row in range(ROWS):
        listed = [c for c in ranked[row].tolist() if c >= 0]
        assert ranks[row, : len(listed)].tolist() == ranks_of(listed, scores[row])


def test_before_there_is_a_student(ranked):
    corrections = RankCorrections(ranked, WIDTH, WIDTH, 0.1)
    ranks = corrections.ranks.view(ROWS, WIDTH)
    assert ranks[1, :4].tolist() == [3, 2, 1, 0]
    assert ranks[2:].tolist() == [list(range(WIDTH))[::-1]] * (ROWS - 2)
    # Scores that tell nothing apart are as bad.
    corrections.draw()
    before = corrections.lists
    for value in (0.0, torch.nan):
        corrections.refresh(torch.full((ROWS, DIM), value), torch.ones(COLS, DIM))
        assert torch.equal(corrections.ranks.view(ROWS, WIDTH)[2:], ranks[2:])
    listed, none = ranked[1].tolist(), [-1] * (WIDTH - 2)
    assert before[1].tolist() == [*listed[:2], *none, *listed[2:4], *none]


@pytest.mark.parametrize("entries", [2**19, 30, 1])
@pytest.mark.parametrize(("num_under", "num_over"), [(3, 2), (1, 1), (6, 5), (40, 40)])
def test_lists(ranked, num_under, num_over, entries, monkeypatch):
    monkeypatch.setattr(dual_correction, "BLOCK_ENTRIES", entries)
    corrections = RankCorrections(ranked, num_under, num_over, 0.1)
    corrections.refresh(*student())
    corrections.draw()
    parts = [min(num_under, WIDTH), min(num_over, WIDTH)]
    assert corrections.parts == parts and corrections.lists.shape == (ROWS, sum(parts))
    assert corrections.lists.dtype == torch.int32
    ranks = corrections.ranks.view(ROWS, WIDTH).tolist()
    for row, drawn in enumerate(corrections.lists.tolist()):
        listed = [c for c in ranked[row].tolist() if c >= 0]
        split = drawn[: parts[0]], drawn[parts[0] :]
        for sign, num, part in zip((1, -1), parts, split, strict=True):
            wrong = [r for r in range(len(listed)) if sign * (ranks[row][r] - r) > 0]
            found = [c for c in part if c >= 0]
            assert part == found + [-1] * (len(part) - len(found))
            places = [listed.index(c) for c in found]
            assert places == sorted(set(places)) and set(places) <= set(wrong)
            assert len(places) == min(num, len(wrong))


def inclusion(weight: np.ndarray, num: int) -> np.ndarray:
    """How likely each is among ``num`` draws, one after another from those that are left."""
    likely = np.zeros(len(weight))
    for order in permutations(np.flatnonzero(weight), num):
        chance, left = 1.0, weight.sum()
        for place in order:
            chance, left = chance * weight[place] / left, left - weight[place]
        likely[list(order)] += chance
    return likely


@pytest.mark.parametrize("epsilon", [0.03, 0.3, 100.0])
@pytest.mark.parametrize("num", [1, 3])
def test_law(epsilon, num):
    rows, width = 20_000, 10
    ranks = np.array([3, 0, 9, 2, 4, 1, 5, 8, 7, 6])  # both signs, some right
    corrections = RankCorrections(
        torch.arange(width, dtype=torch.int32).repeat(rows, 1), num, num, epsilon
    )
    corrections.ranks = torch.from_numpy(ranks).to(torch.int16).repeat(rows)
    corrections.draw()
    for sign, drawn in zip((1, -1), corrections.lists.split(num, dim=1), strict=True):
        weight = np.tanh(np.maximum(epsilon * sign * (ranks - np.arange(width)), 0))
        assert (weight > 0).sum() >= 3
        found = np.bincount(drawn.flatten(), minlength=width) / rows
        expected = inclusion(weight, num)
        assert expected.sum() == pytest.approx(num)
        sigma = np.sqrt(np.maximum(expected * (1 - expected), 0) / rows)
        assert (np.abs(found - expected) <= 5 * sigma + 1e-12).all()


def test_a_seed_decides_and_every_draw_is_new(ranked):
    corrections = RankCorrections(ranked, 3, 2, 0.1)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        corrections.draw()
        drawn.append(corrections.lists)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_ranks_are_saved_and_lists_are_not(ranked):
    source, target = (RankCorrections(ranked, 3, 2, 0.1) for _ in range(2))
    source.refresh(*student())
    source.draw()
    assert list(source.state_dict()) == ["ranks"]
    assert not torch.equal(source.ranks, target.ranks)
    target.load_state_dict(source.state_dict())
    assert torch.equal(source.ranks, target.ranks)


def test_long_rankings_have_room():
    width = 40_000
    corrections = RankCorrections(torch.arange(width, dtype=torch.int32).view(1, -1), 1, 1, 1e-5)
    assert int(corrections.ranks[0]) == width - 1
    corrections.refresh(torch.ones(1, 1), -torch.arange(width).view(-1, 1).float())
    assert torch.equal(corrections.ranks.long(), torch.arange(width))
