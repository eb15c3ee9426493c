from __future__ import annotations

from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyg_kd.distill.collaborative_distillation import rank_sampler
from pyg_kd.distill.collaborative_distillation.rank_sampler import RankSampler, draw_ranks
from pyg_kd.graph import Neighbors, sorted_neighbors


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


def within(count: np.ndarray, num: int, p: np.ndarray) -> bool:
    """Whether counts are within five sigmas of their expectation."""
    return bool((np.abs(count - num * p) < 5 * np.sqrt(num * p * (1 - p))).all())


def inclusion(num: int, p: np.ndarray) -> np.ndarray:
    """The chance of each to be among ``num`` drawn one after another, up to O(1 / num^2).

    In a race of exponential clocks of rates ``p`` all that have rung by a time are such a draw.
    """
    low, high = -50.0, 50.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        below = -np.expm1(-p * exp(middle)).sum() < num
        low, high = (middle, high) if below else (low, middle)
    return -np.expm1(-p * exp(low))


def chi_square(count: np.ndarray, p: np.ndarray) -> float:
    """In standard deviations from what it is expected to be."""
    expected, freedom = count.sum() * p / p.sum(), len(p) - 1
    statistic = float(((count - expected) ** 2 / expected).sum())
    return (statistic - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("num_candidates", [None, 12, 1000])
def test_the_law_is_exact_where_all_items_are_candidates(num_candidates: int | None) -> None:
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


@pytest.mark.parametrize("num_candidates", [None, 6])
def test_items_of_equal_scores_are_as_likely(num_candidates: int | None) -> None:
    seen, num_epochs = [1, 4], 2_000
    sampler = RankSampler(same_seen(3, seen), 9, num_candidates)
    nobody = {"user": torch.zeros(3, 2), "item": torch.zeros(9, 2)}
    drawn = torch.stack([sampler.draw(nobody, 2, decay=50.0)[1] for _ in range(num_epochs)])
    count = np.bincount(drawn[drawn >= 0], minlength=9)
    assert count[seen].sum() == 0
    assert within(count[[0, 2, 3, 5, 6, 7, 8]], count.sum(), np.full(7, 1 / 7))


@pytest.mark.parametrize(("num_items", "width"), [(30, 30), (31, 30), (47, 30), (400, 30)])
def test_candidates_are_distinct_and_equally_likely(num_items: int, width: int) -> None:
    num, device = 3_000, torch.device("cpu")
    drawn = np.stack(
        [rank_sampler._candidates(num_items, width, device).numpy() for _ in range(num)]
    )
    assert all(len(set(row)) == width for row in drawn.tolist())
    count = np.bincount(drawn.flatten(), minlength=num_items)
    share = width / num_items
    assert (np.abs(count - num * share) <= 5 * (num * share * (1 - share)) ** 0.5).all()


def drawn_ranks(num_candidates: int | None, num: int, num_epochs: int) -> tuple[np.ndarray, int]:
    """The true ranks of what 100 users get out of 25,000 items, and how many ranks there are."""
    num_users, num_items, num_seen = 100, 25_000, 36
    generator = torch.Generator().manual_seed(0)
    x_dict = {
        "user": torch.randn(num_users, 8, generator=generator),
        "item": torch.randn(num_items, 8, generator=generator),
    }
    seen = torch.rand(num_users, num_items, generator=generator).topk(num_seen).indices
    scores = x_dict["user"] @ x_dict["item"].t()
    scores.scatter_(1, seen, -torch.inf)
    order = scores.argsort(dim=1, descending=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(num_items).expand_as(order))
    col = seen.sort(dim=1).values.flatten()
    neighbors = Neighbors(torch.arange(num_users + 1) * num_seen, col)
    sampler = RankSampler(neighbors, num_items, num_candidates)
    drawn = [sampler.draw(x_dict, num, decay=10.0).long() for _ in range(num_epochs)]
    assert all(bool((d.sort(dim=1).values.diff(dim=1) > 0).all()) for d in drawn)  # distinct
    return torch.cat([rank.gather(1, d) for d in drawn]).numpy(), num_items - num_seen


def test_the_law_of_a_large_catalogue() -> None:
    ranks, num_unseen = drawn_ranks(None, 50, 10)
    assert ranks.max() < num_unseen
    bins = np.arange(num_unseen) * 20 // num_unseen
    p = np.bincount(bins, inclusion(50, law(num_unseen, 25_000, 10.0)))
    count = np.bincount(bins[ranks.flatten()], minlength=20)
    share, expected = count[0] / count.sum(), p[0] / p.sum()
    assert 0.38 < expected < 0.40
    assert abs(share - expected) < 5 * (expected * (1 - expected) / count.sum()) ** 0.5
    assert chi_square(count, p) < 5


def test_few_candidates_keep_to_the_law() -> None:
    ranks, num_unseen = drawn_ranks(1000, 50, 40)
    assert ranks.max() < num_unseen
    bins = np.arange(num_unseen) * 20 // num_unseen
    p = np.bincount(bins, inclusion(50, law(num_unseen, 25_000, 10.0)))
    count = np.bincount(bins[ranks.flatten()], minlength=20)
    share, expected = count[0] / count.sum(), p[0] / p.sum()
    sigma = (expected * (1 - expected) / count.sum()) ** 0.5
    assert abs(share - expected) < 0.01 * expected + 4 * sigma


@pytest.mark.parametrize("rate", [0.004, 0.03])
def test_ranks_that_race_and_ranks_drawn_until_distinct(monkeypatch, rate: float) -> None:
    # More than 64 ranks for each that is drawn, which is what the second way is for.
    size, num, rows = 260, 4, 20_000
    monkeypatch.setattr(rank_sampler, "MAX_RACE", 0)
    ways = {
        "race": rank_sampler._race(torch.full((rows,), size), size, num, rate),
        "until distinct": rank_sampler._until_distinct(torch.full((rows,), size), num, rate),
        "chosen": draw_ranks(torch.full((rows,), size), num, rate),
    }
    rng, p, bins = np.random.default_rng(0), law(size, 1, rate), np.arange(size) * 13 // size
    draws = [rng.choice(size, num, replace=False, p=p) for _ in range(rows)]
    expected = np.bincount(bins[np.concatenate(draws)], minlength=13) / rows / num
    for ranks in ways.values():
        assert ranks.shape == (rows, num) and bool((ranks.diff(dim=1) > 0).all())
        found = np.bincount(bins[ranks.flatten().numpy()], minlength=13) / rows / num
        sigma = np.sqrt(2 * expected * (1 - expected) / rows / num)
        assert (np.abs(found - expected) < 5 * sigma + 1e-5).all()


def test_rows_that_draw_the_same_again_and_again_go_on() -> None:
    # Of the 38 numbers that a row gets at a time, one in thirty lacks the last rank.
    ranks = rank_sampler._until_distinct(torch.full((5_000,), 3), 3, 1.0)
    assert torch.equal(ranks, torch.arange(3).expand(5_000, -1))


@pytest.mark.parametrize("rate", [1e-9, 0.3, 1e6])
def test_ranks_of_rows_of_any_size(rate: float) -> None:
    size = torch.tensor([0, 1, 3, 4, 100, 5_000, 1_000_000])
    for _ in range(20):
        ranks = draw_ranks(size, 4, rate)
        for row, n in zip(ranks.tolist(), size.tolist(), strict=True):
            count = min(n, 4)
            assert row[count:] == [-1] * (4 - count)
            assert row[:count] == sorted(set(row[:count])) and max(row[:count], default=0) < max(
                n, 1
            )
            assert rate < 1e6 or row[:count] == list(range(count))


@given(st.integers(1, 6), st.integers(1, 70), st.integers(1, 9), st.integers(0, 99))
def test_columns_at_ranks(n: int, m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.integers(1, 30)  # few: scores that are equal
    scores = torch.from_numpy(rng.integers(0, levels, (n, m))) * 10.0 ** rng.integers(-8, 8)
    scores[rng.integers(n)] *= float(rng.choice([0.0, 1.0, -1e20]))
    hidden = torch.from_numpy(rng.random((n, m)) < rng.choice([0.0, 0.3, 0.9]))
    hidden[:, rng.integers(m)] = False
    left = (~hidden).sum(1)
    ranks = torch.stack([torch.from_numpy(rng.integers(0, int(c), k)) for c in left])
    found = rank_sampler._at_ranks(scores.clone(), *hidden.nonzero().t(), ranks)
    for row in range(n):
        order = sorted(
            (j for j in range(m) if not hidden[row, j]), key=lambda j: (-scores[row, j].item(), j)
        )
        assert found[row].tolist() == [order[r] for r in ranks[row].tolist()]


def test_scores_far_out_share_no_bucket_with_the_rest() -> None:
    # All but two land in one bucket of equal width, which is sorted then.
    scores = torch.randn(3, 500)
    scores[:, 7], scores[:, 9] = 1e30, -1e30
    none = torch.zeros(0, dtype=torch.long)
    ranks = torch.arange(500).repeat(3, 1)
    found = rank_sampler._at_ranks(scores.clone(), none, none, ranks)
    assert torch.equal(found, scores.argsort(dim=1, descending=True, stable=True))


def test_what_is_not_finite_does_not_stop_a_draw() -> None:
    x_dict = {"user": torch.randn(4, 3), "item": torch.randn(50, 3)}
    x_dict["user"][1], x_dict["item"][5, 0] = torch.nan, torch.inf
    x_dict["user"][2], x_dict["item"][6] = 1e38, 1e38  # products that overflow
    drawn = RankSampler(same_seen(4, [0, 1]), 50).draw(x_dict, 10, decay=5.0)
    assert drawn.min() >= 2 and bool((drawn.sort(dim=1).values.diff(dim=1) > 0).all())


def random_seen(num_users: int, num_items: int, share: float) -> tuple[Neighbors, list[set[int]]]:
    pairs = np.argwhere(np.random.default_rng(0).random((num_users, num_items)) < share)
    seen = sorted_neighbors(*torch.from_numpy(pairs.T.copy()), num_users, num_items)
    return seen, [set(pairs[pairs[:, 0] == u, 1].tolist()) for u in range(num_users)]


@pytest.mark.parametrize("num_candidates", [10, 40])
def test_blocks_keep_to_their_own_users(monkeypatch, num_candidates: int) -> None:
    monkeypatch.setattr(rank_sampler, "BLOCK_ENTRIES", 70)
    seen, sets = random_seen(50, 40, 0.4)
    x_dict = {"user": torch.randn(50, 3), "item": torch.randn(40, 3)}
    sampler = RankSampler(seen, 40, num_candidates)
    for _ in range(5):
        for user, drawn in enumerate(sampler.draw(x_dict, 5, decay=2.0).tolist()):
            items = [i for i in drawn if i >= 0]
            assert len(set(items)) == len(items) and not sets[user] & set(items)
            assert len(items) == 5 or num_candidates == 10


def test_a_steep_law_takes_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_sampler, "BLOCK_ENTRIES", 100)
    seen, sets = random_seen(20, 40, 0.3)
    x_dict = {"user": torch.randn(20, 3), "item": torch.randn(40, 3)}
    drawn = RankSampler(seen, 40).draw(x_dict, 4, decay=1e6)
    scores = (x_dict["user"] @ x_dict["item"].t()).numpy()
    for user in range(20):
        best = [i for i in np.argsort(-scores[user]).tolist() if i not in sets[user]][:4]
        assert sorted(drawn[user].tolist()) == sorted(best)


def test_padding() -> None:
    seen = sorted_neighbors(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 0, 1]), 3, 3)
    x_dict = {"user": torch.randn(3, 2), "item": torch.randn(3, 2)}
    drawn = RankSampler(seen, 3, 1000).draw(x_dict, 7, decay=1.0)
    assert [sorted(row) for row in drawn.tolist()] == [[-1, -1, -1], [-1, -1, 2], [0, 1, 2]]
