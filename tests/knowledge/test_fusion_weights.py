from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_kd.graph import Neighbors
from pyg_kd.knowledge import fusion_weights
from pyg_kd.knowledge.fusion_weights import choose_weights, values_of
from pyg_kd.metrics import Task

ITEMS = 9


def fused(
    lists: list[list[int]], worth: list[list[float]], weights: tuple[float, ...]
) -> list[int]:
    """One user's items by their weighted sums, then by best rank, then by list."""
    total: dict[int, float] = {}
    first: dict[int, tuple[int, int]] = {}
    for m, items in enumerate(lists):
        for rank, item in enumerate(items):
            if item >= 0 and weights[m]:
                total[item] = total.get(item, 0.0) + weights[m] * worth[m][rank]
                first[item] = min(first.get(item, (rank, m)), (rank, m))
    return sorted(total, key=lambda item: (-total[item], first[item]))


def ndcg(ranked: list[int], targets: list[int], k: int) -> float:
    gain = sum(1 / math.log2(r + 2) for r, item in enumerate(ranked[:k]) if item in targets)
    return gain / sum(1 / math.log2(r + 2) for r in range(min(k, len(targets))))


@st.composite
def worlds(draw: st.DrawFn) -> tuple:
    users, count = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    lengths = [draw(st.integers(1, 6)) for _ in range(count)]
    lists = [[draw(st.permutations(range(ITEMS)))[:k] for _ in range(users)] for k in lengths]
    for found in lists:
        for row in found:
            cut = draw(st.integers(0, len(row)))
            row[cut:] = [-1] * (len(row) - cut)
    # Few values, so that sums are often equal.
    worth = [[[draw(st.integers(0, 2)) for _ in range(k)] for _ in range(users)] for k in lengths]
    targets = [
        sorted(draw(st.sets(st.integers(0, ITEMS - 1), min_size=1, max_size=3)))
        for _ in range(users)
    ]
    weights = [
        draw(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 2.0])] * count).filter(any))
        for _ in range(2)
    ]
    return lists, worth, targets, weights


def task_of(targets: list[list[int]]) -> Task:
    ptr = torch.tensor([0, *[len(t) for t in targets]]).cumsum(0)
    found = Neighbors(ptr=ptr, col=torch.tensor([i for t in targets for i in t]))
    return Task(found, found, torch.arange(len(targets)), ITEMS)


@settings(deadline=None)
@given(worlds(), st.integers(1, 8), st.sampled_from([2**21, 1]))
def test_values_are_those_of_the_fused_lists(world: tuple, k: int, entries: int) -> None:
    lists, worth, targets, weights = world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusion_weights, "ENTRIES", entries)
        found = values_of(
            weights,
            [torch.tensor(rows, dtype=torch.int32) for rows in lists],
            [torch.tensor(rows, dtype=torch.double) for rows in worth],
            task_of(targets),
            f"ndcg@{k}",
        )
    for weight, value in zip(weights, found, strict=True):
        each = [
            ndcg(fused([m[u] for m in lists], [m[u] for m in worth], weight), targets[u], k)
            for u in range(len(targets))
        ]
        assert value == pytest.approx(sum(each) / len(each), abs=1e-12)


def test_teachers_that_do_not_help_have_no_weight() -> None:
    # The second finds what the first misses, the third finds nothing.
    lists = [
        torch.tensor(rows) for rows in ([[0, 1], [3, 4]], [[5, 6], [7, 8]], [[4, 3], [1, 0]])
    ]  # fmt: skip
    worth = [torch.tensor([1.0, 0.5])] * 3
    weights = choose_weights(lists, worth, task_of([[0], [7]]), "recall@1")
    assert weights[2] == 0.0 and weights[0] + weights[1] > 0
    only = choose_weights(lists[:1], worth[:1], task_of([[8], [8]]), "recall@1")
    assert only == (1.0,)
