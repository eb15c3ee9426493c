from __future__ import annotations

import math
import statistics

import pytest
import torch

from pyg_kd.functional import consensus as module
from pyg_kd.functional.consensus import KINDS, Head, consensus, place_deviation


def oracle(
    lists: list,
    num_listed: int,
    newest: int,
    temperature: float,
    deviation: float | None,
    num_counted: int | None = None,
) -> tuple[list[int], list[float]]:
    """One user: ``lists[time][ranker]`` is a list of items, best first."""
    length, score = len(lists[0][0]), {}
    for ranker, items in enumerate(lists[newest]):
        for place, item in enumerate(items):
            if item < 0:
                continue
            value = math.exp(-place / temperature)
            if deviation is not None:
                places = [
                    time[ranker].index(item) if item in time[ranker] else length
                    for time in lists[:num_counted]
                ]
                value += math.exp(-statistics.pstdev(places) / deviation)
            score[item] = score.get(item, 0.0) + value
    ranked = sorted(score, key=lambda item: (-score[item], item))[:num_listed]
    pad = num_listed - len(ranked)
    return ranked + [-1] * pad, [score[item] for item in ranked] + [0.0] * pad


def draw(window: int, heads: int, users: int, length: int, num_items: int) -> torch.Tensor:
    """Lists of different items, some of them shorter than others."""
    lists = torch.rand(window, heads, users, num_items).argsort(-1)[..., :length].int()
    end = torch.randint(length + 1, (window, heads, users, 1))
    end[:, :, ::2] = length
    return lists.masked_fill(torch.arange(length) >= end, -1)


@pytest.mark.parametrize("deviation", [None, 100.0, 3.0])
@pytest.mark.parametrize(("window", "heads", "num_items"), [(1, 1, 9), (5, 3, 12), (3, 5, 30)])
def test_against_the_definition(window, heads, num_items, deviation, monkeypatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 3 * heads * 8)  # three users at once
    lists = draw(window, heads, 7, 8, num_items)
    for newest in range(window):
        for num_listed in (4, 40):
            items, scores = consensus(
                lists, num_listed, newest=newest, temperature=2.5, deviation=deviation
            )
            assert items.dtype == torch.int32 and scores.dtype == torch.float32
            for user in range(7):
                own = lists[:, :, user].tolist()
                expected = oracle(own, num_listed, newest, 2.5, deviation)
                torch.testing.assert_close(scores[user], torch.tensor(expected[1]))
                # Rounding may swap what differs by less.
                if len(set(expected[1])) == num_listed:
                    assert items[user].tolist() == expected[0]


@pytest.mark.parametrize(("newest", "num_counted"), [(4, 4), (1, 3), (3, 1)])
def test_the_deviation_of_some_of_the_times(newest: int, num_counted: int) -> None:
    lists = draw(5, 3, 6, 8, 12)
    _, scores = consensus(
        lists, 10, newest=newest, temperature=2.5, deviation=3.0, num_counted=num_counted
    )
    for user in range(6):
        own = lists[:, :, user].tolist()
        expected = oracle(own, 10, newest, 2.5, 3.0, num_counted)
        torch.testing.assert_close(scores[user], torch.tensor(expected[1]))


def test_an_infinite_decay_is_a_deviation_of_zero() -> None:
    lists = draw(3, 2, 4, 6, 9)
    scores = consensus(lists, 9, newest=1, temperature=2.0, deviation=math.inf)[1]
    steady = consensus(lists[1:2], 9, temperature=2.0, deviation=1.0)[1]
    assert torch.equal(scores, steady)


def test_equals_are_ordered_by_item() -> None:
    lists = torch.tensor([[[[8, 2, 5]], [[3, 9, 5]]]], dtype=torch.int32)
    assert consensus(lists, 5, deviation=100.0)[0].tolist() == [[5, 3, 8, 2, 9]]


def test_what_does_not_move_has_no_deviation() -> None:
    lists = torch.rand(1, 2, 3, 200).argsort(-1)[..., :100].int().expand(5, -1, -1, -1)
    assert not place_deviation(lists, 2).any()


def test_steady_items_come_before_newcomers() -> None:
    # Item 1 has always been second; item 0 was not listed before it became first.
    lists = torch.tensor([[[[5, 1, 6, 7]]], [[[0, 1, 6, 7]]]], dtype=torch.int32)
    assert consensus(lists, 1, newest=1, temperature=10.0, deviation=1.0)[0].tolist() == [[1]]
    assert consensus(lists, 1, newest=1, temperature=10.0, deviation=None)[0].tolist() == [[0]]


def test_nobody_lists_anything() -> None:
    items, scores = consensus(torch.full((2, 3, 4, 5), -1, dtype=torch.int32), 6)
    assert items.eq(-1).all() and not scores.any() and items.shape == (4, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_inner_products_are_the_scores(kind: str) -> None:
    x_user, x_item = torch.randn(4, 9).double(), torch.randn(6, 9).double()
    vectors = Head("any", 2, 7, kind).vectors(x_user, x_item)
    for u in range(4):
        for i in range(6):
            user, item = x_user[u, 2:7], x_item[i, 2:7]
            expected = user @ item if kind == "inner" else -((user - item) ** 2).sum()
            assert (vectors[0][u] @ vectors[1][i]).item() == pytest.approx(expected.item())


def test_gradient_of_distances() -> None:
    x_user, x_item = (torch.randn(n, 3).double().requires_grad_() for n in (2, 3))

    def scores(x_user: torch.Tensor, x_item: torch.Tensor) -> torch.Tensor:
        user, item = Head("any", 0, 3, "distance").vectors(x_user, x_item)
        return user @ item.t()

    assert torch.autograd.gradcheck(scores, (x_user, x_item))


def test_other_columns_do_not_count() -> None:
    head, x = Head("any", 1, 2), torch.tensor([[torch.nan, 1.0, torch.nan]])
    assert all(v.tolist() == [[1.0]] for v in head.vectors(x, x))
