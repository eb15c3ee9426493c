from __future__ import annotations

from math import exp

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd.functional import rank_sampling
from pyg_kd.functional.rank_sampling import RankSampler
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
    monkeypatch.setattr(rank_sampling, "BLOCK_ENTRIES", width)  # candidates of one's own
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
    monkeypatch.setattr(rank_sampling, "BLOCK_ENTRIES", 70)
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
    monkeypatch.setattr(rank_sampling, "BLOCK_ENTRIES", 100)
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
