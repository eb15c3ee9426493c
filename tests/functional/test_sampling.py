from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pyg_kd.functional import Neighbors, UnseenItems, sample_unseen, sampling, sorted_neighbors
from pyg_kd.functional.sampling import distinct_ids

# Of 8 items, users have seen: some in the middle, none, the first and last, all but one, all.
SEEN = [{2, 3, 6}, set(), {0, 7}, {0, 1, 2, 3, 5, 6, 7}, set(range(8))]
NUM_ITEMS = 8


def neighbors(seen: list[set[int]], num_items: int) -> Neighbors:
    pairs = [(u, i) for u, items in enumerate(seen) for i in items]
    user, item = torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()
    return sorted_neighbors(user, item, len(seen), num_items)


def complement(seen: set[int], num_items: int) -> list[int]:
    return sorted(set(range(num_items)) - seen)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(user: int, num: int, rows: int, *, replace: bool, seed: int = 0) -> Tensor:
    users = torch.full((rows,), user)
    seen = neighbors(SEEN, NUM_ITEMS)
    return sample_unseen(users, seen, NUM_ITEMS, num, replace=replace, generator=seeded(seed))


@st.composite
def histories(draw_):
    num_items = draw_(st.integers(1, 9))
    items = st.sets(st.integers(0, num_items - 1))
    return draw_(st.lists(items, min_size=1, max_size=5)), num_items


@given(histories())
def test_places_enumerate_the_complement(problem):
    seen, num_items = problem
    unseen = UnseenItems(neighbors(seen, num_items), num_items)
    for user, items in enumerate(seen):
        left = complement(items, num_items)
        assert int(unseen.num_left[user]) == len(left)
        ranks = torch.arange(len(left))
        assert unseen.at(torch.tensor(user), ranks).tolist() == left


# Just below 2^31 keys, just above, and far above.
@pytest.mark.parametrize(
    ("num_rows", "num_items", "dtype"),
    [
        (2**15 - 1, 2**16 - 1, torch.int32),
        (2**15 + 1, 2**16 - 1, torch.int64),
        (50_000, 50_000, torch.int64),
        (2**17, 2**16, torch.int64),
    ],
)
def test_keys_are_wide_enough_for_the_last_row(num_rows, num_items, dtype):
    seen = [0, 7, num_items - 1]
    ptr = torch.zeros(num_rows + 1, dtype=torch.long)
    ptr[-2], ptr[-1] = 3, 6  # the last two rows
    unseen = UnseenItems(Neighbors(ptr, torch.tensor(seen * 2)), num_items)
    assert unseen.key.dtype == dtype
    for user in (0, num_rows - 2, num_rows - 1):
        left = [i for i in range(num_items) if user == 0 or i not in seen]
        ranks = [0, 1, 5, 6, 7, len(left) // 2, len(left) - 1]
        found = unseen.at(torch.tensor(user), torch.tensor(ranks))
        assert found.tolist() == [left[r] for r in ranks]


@pytest.mark.parametrize("entries", [1, 5, 8])
def test_tables_are_made_in_blocks(monkeypatch, entries):
    whole = UnseenItems(neighbors(SEEN, NUM_ITEMS), NUM_ITEMS)
    monkeypatch.setattr(sampling, "BLOCK_ENTRIES", entries)
    blocks = UnseenItems(neighbors(SEEN, NUM_ITEMS), NUM_ITEMS)
    assert all(map(torch.equal, whole.buffers(), blocks.buffers()))


@pytest.mark.parametrize(("searches", "sorts"), [(40, 1), (41, 0)])
def test_many_searches_find_what_few_do(monkeypatch, searches, sorts):
    unseen = UnseenItems(neighbors([{2, 3, 6}, {0, 7}, {0, 1, 5}], NUM_ITEMS), NUM_ITEMS)
    user, rank = torch.randint(0, 3, (10, 1)), torch.randint(0, 5, (10, 4))
    few, done = unseen.at(user, rank), []
    monkeypatch.setattr(sampling, "SORTED_SEARCHES", searches)
    searched = torch.searchsorted

    def spy(sorted_keys, wanted, **options):
        done.append(bool((wanted.flatten().diff() >= 0).all()))  # the keys are few: 16 bits do
        return searched(sorted_keys, wanted, **options)

    monkeypatch.setattr(torch, "searchsorted", spy)
    assert torch.equal(unseen.at(user, rank), few)
    assert done == [bool(sorts)]


def test_users_and_places_broadcast():
    unseen = UnseenItems(neighbors(SEEN[:3], NUM_ITEMS), NUM_ITEMS)
    table = unseen.at(torch.tensor([2, 0, 1]).unsqueeze(1), torch.arange(4))
    assert table.tolist() == [complement(SEEN[u], NUM_ITEMS)[:4] for u in (2, 0, 1)]
    table = unseen.at(torch.tensor([[0], [2]]), torch.tensor([[4, 0], [1, 5]]))
    assert table.tolist() == [[7, 0], [2, 6]]


@given(histories(), st.integers(0, 7), st.integers(0, 99))
def test_without_replacement_items_are_distinct_and_unseen(problem, num, seed):
    seen, num_items = problem
    users = torch.arange(len(seen)).repeat(2).flip(0)
    items = sample_unseen(
        users, neighbors(seen, num_items), num_items, num, replace=False, generator=seeded(seed)
    )
    assert items.shape == (len(users), num) and items.dtype == torch.long
    for user, row in zip(users.tolist(), items.tolist(), strict=True):
        left = complement(seen[user], num_items)
        found = [i for i in row if i != -1]
        assert len(found) == len(set(found)) == min(num, len(left))
        assert set(found) <= set(left)


@given(histories(), st.integers(0, 7), st.integers(0, 99))
def test_with_replacement_items_are_unseen(problem, num, seed):
    seen, num_items = problem
    users = torch.tensor([u for u, s in enumerate(seen) if len(s) < num_items], dtype=torch.long)
    items = sample_unseen(users, neighbors(seen, num_items), num_items, num, generator=seeded(seed))
    assert items.shape == (len(users), num) and items.dtype == torch.long
    for user, row in zip(users.tolist(), items.tolist(), strict=True):
        assert set(row) <= set(complement(seen[user], num_items))


def uniform(outcomes: list, possible: list) -> float:
    """The p-value of all ``possible`` outcomes being as likely; others must not occur."""
    count = Counter(outcomes)
    assert set(count) <= set(possible)
    return float(chisquare([count[o] for o in possible]).pvalue)


@pytest.mark.parametrize("user", [0, 1, 2])
def test_every_unseen_item_is_as_likely(user):
    items = draw(user, 3, 4000, replace=True)
    left = complement(SEEN[user], NUM_ITEMS)
    assert uniform(items.flatten().tolist(), left) > 1e-3
    for place in range(3):
        assert uniform(items[:, place].tolist(), left) > 1e-3
    # The places are independent: so are all pairs of items.
    pairs = list(itertools.product(left, repeat=2))
    assert uniform([tuple(p) for p in items[:, :2].tolist()], pairs) > 1e-3


@pytest.mark.parametrize("user", [0, 1, 2])
@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_every_set_of_unseen_items_is_as_likely(user, num):
    items = draw(user, num, 6000, replace=False)
    sets = list(itertools.combinations(complement(SEEN[user], NUM_ITEMS), num))
    assert uniform([tuple(sorted(row)) for row in items.tolist()], sets) > 1e-3


def test_the_test_of_uniformity_finds_a_bias():
    items = draw(1, 1, 4000, replace=True).flatten()
    assert uniform(items.clamp(max=6).tolist(), list(range(7))) < 1e-6


def test_rows_of_one_user_differ():
    items = draw(1, 4, 50, replace=False)
    assert len({tuple(row) for row in items.tolist()}) > 20


def test_what_is_lacking_is_minus_one():
    users = torch.tensor([3, 4, 0])
    items = sample_unseen(users, neighbors(SEEN, NUM_ITEMS), NUM_ITEMS, 6, replace=False)
    assert sorted(items[0].tolist()) == [-1] * 5 + [4]
    assert items[1].tolist() == [-1] * 6
    assert sorted(items[2].tolist()) == [-1, 0, 1, 4, 5, 7]


def test_a_user_who_has_seen_everything():
    seen = neighbors(SEEN, NUM_ITEMS)
    with pytest.raises(ValueError, match="user 4 has seen every item"):
        sample_unseen(torch.tensor([1, 4, 0]), seen, NUM_ITEMS, 2)
    items = sample_unseen(torch.tensor([1, 0]), seen, NUM_ITEMS, 2)  # who is not asked for is fine
    assert items.shape == (2, 2)


def test_no_users_and_no_items():
    seen = neighbors(SEEN, NUM_ITEMS)
    none = torch.empty(0, dtype=torch.long)
    for replace in (True, False):
        assert sample_unseen(none, seen, NUM_ITEMS, 3, replace=replace).shape == (0, 3)
        assert sample_unseen(torch.tensor([0]), seen, NUM_ITEMS, 0, replace=replace).shape == (1, 0)


@pytest.mark.parametrize("replace", [True, False])
def test_a_generator_gives_the_same_items_and_leaves_the_global_state(replace):
    before = torch.get_rng_state()
    first, again = (draw(1, 4, 30, replace=replace, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(1, 4, 30, replace=replace, seed=4))
    assert torch.equal(before, torch.get_rng_state())

    torch.manual_seed(99)  # nor does it depend on it
    assert torch.equal(first, draw(1, 4, 30, replace=replace, seed=3))


@pytest.mark.parametrize("replace", [True, False])
def test_without_a_generator_the_global_state_decides(replace):
    seen, users = neighbors(SEEN, NUM_ITEMS), torch.ones(30, dtype=torch.long)
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(sample_unseen(users, seen, NUM_ITEMS, 4, replace=replace))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_the_module_draws_the_same_and_saves_nothing():
    seen = neighbors(SEEN, NUM_ITEMS)
    unseen, users = UnseenItems(seen, NUM_ITEMS), torch.tensor([0, 1, 2, 3])
    for replace in (True, False):
        items = unseen.sample(users, 3, replace=replace, generator=seeded(1))
        expected = sample_unseen(users, seen, NUM_ITEMS, 3, replace=replace, generator=seeded(1))
        assert torch.equal(items, expected)
    assert unseen.state_dict() == {}
    assert {b.device.type for b in unseen.to("meta").buffers()} == {"meta"}


def test_a_large_catalogue_keeps_exact_ids():
    # Keys of user and item together exceed the integers that float32 holds.
    num_items, num_users = 3_000_000, 2000
    rng = np.random.default_rng(0)
    user, item = (torch.from_numpy(rng.integers(0, n, 20000)) for n in (num_users, num_items))
    unseen = UnseenItems(sorted_neighbors(user, item, num_users, num_items), num_items)
    last = num_users - 1
    own = set(item[user == last].tolist())
    left = int(unseen.num_left[last])
    assert left == num_items - len(own)
    ranks = torch.cat([torch.arange(50), torch.arange(left - 50, left)])
    left_items = complement(own, num_items)
    expected = left_items[:50] + left_items[-50:]
    assert unseen.at(torch.tensor(last), ranks).tolist() == expected


@given(st.lists(st.lists(st.integers(-1, 8), min_size=3, max_size=3), max_size=6))
def test_ids_are_those_of_a_set(ids):
    for dtype in (torch.int32, torch.int64):
        found = distinct_ids(torch.tensor(ids, dtype=dtype).view(-1, 3), 9)
        assert found.dtype == torch.int64
        assert found.tolist() == sorted({i for row in ids for i in row} - {-1})


def test_without_values_there_are_as_many_as_there_may_be():
    with FakeTensorMode():
        few, many = (torch.empty(n, 4, dtype=torch.int32, device="cuda") for n in (2, 20))
        for ids, number in ((few, 8), (many, 10)):
            found = distinct_ids(ids, 10)
            assert found.shape == (number,) and found.device.type == "cuda"
