from __future__ import annotations

from math import exp, log2

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyg_kd.functional.ranks import (
    find_in_lists,
    rank_discrepancy,
    rank_ensemble,
    rank_in,
    rank_spread,
)


def one_by_one(student: list[int], teacher: list[int], gain: str) -> float:
    """Place by place, in plain Python."""

    def worth(rank: int) -> float:
        return 2 ** exp(-rank / 10) - 1

    ideal = sum(worth(r) / log2(r + 2) for r, item in enumerate(teacher) if item >= 0)
    if ideal == 0:
        return 0.0
    dcg = 0.0
    for t, item in enumerate(student):
        if item >= 0 and item in teacher:
            dcg += worth(teacher.index(item) if gain == "teacher" else t) / log2(t + 2)
    return max(1 - dcg / ideal, 0.0)


def lists(shape: tuple[int, ...], length: int, seed: int) -> Tensor:
    """Distinct items, padded at the end now and then."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(int(np.prod(shape))):
        row = rng.permutation(30)[:length]
        row[rng.integers(length + 1) if rng.random() < 0.4 else length :] = -1
        rows.append(row)
    return torch.tensor(np.array(rows), dtype=torch.int32).view(*shape, length)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_ranks(num_items, length, seed):
    items, reference = lists((3,), num_items, seed), lists((3,), length, seed + 1)
    expected = [
        [list(r).index(i) if i >= 0 and i in r else length for i in row]
        for row, r in zip(items.tolist(), reference.tolist(), strict=True)
    ]
    assert rank_in(items, reference).tolist() == expected


@pytest.mark.parametrize("gain", ["teacher", "student"])
@pytest.mark.parametrize(("first", "second"), [(10, 10), (4, 9), (9, 4), (1, 1), (30, 30)])
def test_values(gain, first, second):
    student, teacher = lists((20, 1), first, 0), lists((20, 3), second, 1)
    found = rank_discrepancy(student, teacher, gain=gain)
    assert found.shape == (20, 3) and found.dtype == torch.float32
    expected = [
        [one_by_one(s[0], t, gain) for t in ts]
        for s, ts in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("gain", ["teacher", "student"])
def test_ends(gain):
    ranked = torch.arange(50).unsqueeze(0)
    assert rank_discrepancy(ranked, ranked, gain=gain).item() < 1e-6
    assert rank_discrepancy(ranked, ranked + 50, gain=gain).item() == 1
    assert rank_discrepancy(ranked, torch.full((1, 50), -1), gain=gain).item() == 0
    # The order of shared items counts by the teacher only.
    turned = rank_discrepancy(ranked.flip(1), ranked, gain=gain).item()
    assert (turned > 0.3) if gain == "teacher" else (turned < 1e-6)


def test_unknown_gain():
    with pytest.raises(ValueError, match=r"'gain' must be one of .*\(got 'both'\)"):
        rank_discrepancy(torch.zeros(1, 1), torch.zeros(1, 1), gain="both")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_who_is_on_an_ascending_list(dtype) -> None:
    lists = torch.tensor([[-1, 2, 5, 9], [0, 1, 2, 3], [-1, -1, -1, -1]], dtype=torch.int32)
    items = torch.tensor([[9, 3, 2, 0, 10], [3, 4, 0, -1, 2], [-1, 0, 1, 2, 3]], dtype=dtype)
    expected = [[i in row for i in wanted] for row, wanted in zip(lists, items, strict=True)]
    assert find_in_lists(lists, items)[1].tolist() == expected
    assert find_in_lists(lists[:, :2], items[:, ::2])[1].tolist() == [
        [i in row for i in wanted] for row, wanted in zip(lists[:, :2], items[:, ::2], strict=True)
    ]


def one_by_one_rank_ensemble(lists: list[list[int]], k: int, decay: float, extra) -> list[int]:
    """Item by item, in plain Python; ties by the best rank, then by the list that has it."""
    importance: dict[int, float] = {}
    first: dict[int, tuple[int, int]] = {}
    for x, row in enumerate(lists):
        for rank, item in enumerate(row):
            if item >= 0:
                more = exp(-rank / decay) + (0 if extra is None else extra[x][rank])
                importance[item] = importance.get(item, 0.0) + more
                first[item] = min(first.get(item, (rank, x)), (rank, x))
    ranked = sorted(importance, key=lambda i: (-round(importance[i], 9), first[i]))
    return (ranked + [-1] * k)[:k]


def random_lists(num_rows: int, num_lists: int, length: int, num_items: int, seed: int):
    rng = np.random.default_rng(seed)
    out = np.full((num_rows, num_lists, length), -1)
    for b in range(num_rows):
        for x in range(num_lists):
            n = length if rng.random() < 0.7 else rng.integers(length + 1)
            out[b, x, :n] = rng.permutation(num_items)[:n]
    return torch.tensor(out, dtype=torch.int32)


@given(
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(1, 15),
    st.booleans(),
    st.integers(0, 999),
)
def test_order(num_lists, length, k, with_extra, seed):
    lists = random_lists(5, num_lists, length, 8, seed)
    extra = torch.rand(lists.shape, dtype=torch.double) if with_extra else None
    ranked = rank_ensemble(lists, k, decay=3.0, extra=extra)
    assert ranked.dtype == torch.int32 and ranked.shape == (5, k)
    rows = [None] * 5 if extra is None else extra.tolist()
    expected = [
        one_by_one_rank_ensemble(row, k, 3.0, more)
        for row, more in zip(lists.tolist(), rows, strict=True)
    ]
    assert ranked.tolist() == expected


def test_equals_do_not_depend_on_ids():
    # Two items have swapped ranks, two more share theirs with nobody.
    lists = torch.tensor([[[9, 1, 4], [1, 9, 2]]])
    assert rank_ensemble(lists, 4).tolist() == [[9, 1, 4, 2]]
    assert rank_ensemble(lists.flip(1), 4).tolist() == [[1, 9, 2, 4]]


def test_a_single_list_stays_as_it_is():
    lists = random_lists(6, 1, 7, 30, 0)
    assert torch.equal(rank_ensemble(lists, 7), lists[:, 0])


@given(st.integers(1, 4), st.integers(0, 99))
def test_spread(num_states, seed):
    states = torch.stack([random_lists(4, 2, 5, 9, seed + v) for v in range(num_states)], 2)
    state = torch.randint(
        num_states, (4, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.long
    )
    spread = rank_spread(states, state)
    for b in range(4):
        for x in range(2):
            rows = states[b, x].tolist()
            for place, item in enumerate(rows[int(state[b, x])]):
                past = rows[: int(state[b, x]) + 1]
                ranks = [row.index(item) if item in row else 5 for row in past]
                if item >= 0:
                    assert float(spread[b, x, place]) == pytest.approx(np.std(ranks))
