from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.latency import recall as module
from pyg_kd.retrieval.latency import recall_at


def _pattern(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum([0, *map(len, lists)]), np.array([i for part in lists for i in part], int)


@given(st.data(), st.integers(1, 9), st.integers(1, 7), st.integers(1, 9))
def test_against_slow_recall(data: st.DataObject, users: int, items: int, k: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x_user, x_item = (rng.integers(-2, 3, (n, 2)).astype(np.float32) for n in (users, items))
    lists = st.lists(st.lists(st.integers(0, items - 1)), min_size=users, max_size=users)
    seen, test = data.draw(lists), data.draw(lists.filter(any))
    shares = []
    for user in range(users):
        scores = x_item @ x_user[user]
        left = [i for i in range(items) if i not in seen[user]]
        best = sorted(left, key=lambda i: (-scores[i], i))[:k]
        if test[user]:
            shares.append(len(set(best) & set(test[user])) / len(set(test[user])))
    index = TopKIndex(x_user, x_item, seen=_pattern(seen))
    module.BLOCK, before = 2, module.BLOCK
    try:
        assert recall_at(index, _pattern(test), k) == pytest.approx(sum(shares) / len(shares))
    finally:
        module.BLOCK = before


def test_bad_arguments() -> None:
    index = TopKIndex(np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match=r"'test.col' must lie in 0..1 \(got 2\)"):
        recall_at(index, ([0, 1, 1], [2]))
    with pytest.raises(ValueError, match=r"'k' must be a positive integer \(got 0\)"):
        recall_at(index, ([0, 1, 1], [1]), k=0)
