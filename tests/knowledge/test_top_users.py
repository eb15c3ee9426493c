"""The best users of items out of tiles, against sorting whole columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_kd.knowledge import top_users
from pyg_kd.knowledge.top_users import TopUsers, merged_top


def oracle(scores: np.ndarray, k: int) -> list[list[int]]:
    """Best first, the lower user first among equals; -inf is nobody."""
    lists = []
    for column in scores.T:
        users = [u for u in range(len(column)) if column[u] > -np.inf]
        users.sort(key=lambda u, column=column: (-column[u], u))
        lists.append((users + [-1] * k)[:k])
    return lists


@st.composite
def cases(draw):
    users, items = draw(st.integers(1, 60)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    levels = draw(st.sampled_from([2, 5, 10_000]))  # many equal scores, or none
    scores = rng.integers(0, levels, (users, items)).astype(draw(st.sampled_from("fd")))
    if draw(st.booleans()):
        scores.sort(0)  # every user exceeds all before
    scores[rng.random(scores.shape) < draw(st.sampled_from([0.0, 0.3, 0.95]))] = -np.inf
    sizes = draw(st.integers(1, users)), draw(st.integers(1, items))
    return scores, draw(st.integers(1, users)), sizes, draw(st.integers(1, 8))


def fed(scores: np.ndarray, k: int, block: int, tile: int, first: int = 0) -> TopUsers:
    x = torch.from_numpy(scores)
    top = TopUsers(x.size(1), k)
    for rows in torch.arange(len(x)).split(block):
        for start in range(0, x.size(1), tile):
            top.add(rows + first, start, x[rows, start : start + tile])
    return top


@settings(max_examples=60, deadline=None)
@given(cases())
def test_tiles_of_any_size_find_the_best(case) -> None:
    scores, k, (block, tile), spare = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_users, "SPARE", spare)
        values, ids = fed(scores, k, block, tile).result()
    assert ids.dtype == torch.int32
    assert ids.tolist() == oracle(scores, k)
    found = np.take_along_axis(scores.T, ids.clamp(min=0).long().numpy(), 1)
    assert np.array_equal(values.numpy(), np.where(ids.numpy() < 0, -np.inf, found))
    assert values.dtype == torch.from_numpy(scores).dtype


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(1, 5))
def test_lists_of_ranges_merge_into_those_of_all(case, parts) -> None:
    scores, k, (block, tile), _ = case
    ranges = [r for r in np.array_split(np.arange(len(scores)), parts) if len(r)]
    found = [fed(scores[r], k, block, tile, int(r[0])).result() for r in ranges]
    values, ids = merged_top(found, k)
    assert ids.tolist() == oracle(scores, k)
    assert torch.equal(values, fed(scores, k, block, tile).result()[0])


def test_nobody_came_by() -> None:
    values, ids = TopUsers(3, 2).result()
    assert ids.tolist() == [[-1, -1]] * 3 and bool((values == -torch.inf).all())


def test_results_are_copies() -> None:
    top = fed(np.array([[1.0], [2.0]]), 1, 1, 1)
    before = top.result()[1].clone()
    top.add(torch.tensor([2]), 0, torch.tensor([[3.0]], dtype=torch.double))
    assert before.tolist() == [[1]] and top.result()[1].tolist() == [[2]]
