from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.graph import Neighbors, sorted_neighbors
from pyg_kd.study.refresh import Lists, Tables


def _seen(rng: np.random.Generator, users: int, items: int) -> tuple[Neighbors, np.ndarray]:
    mask = rng.random((users, items)) < 0.3
    user, item = map(torch.from_numpy, np.nonzero(mask))
    return sorted_neighbors(user, item, users, items), mask


@given(st.integers(0, 200), st.integers(1, 6))
def test_tables_rank_as_a_sort_does(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    user, item = rng.normal(size=(5, 3)), rng.normal(size=(9, 3)) - 0.5
    has_user, has_item = rng.random(5) < 0.6, rng.random(9) < 0.7
    popularity = rng.integers(0, 4, 9)
    seen, mask = _seen(rng, 5, 9)
    tables = Tables(*(torch.from_numpy(x) for x in (user, item, has_user, has_item)))
    users = torch.tensor([4, 1, 0])
    found = tables.ranked(users, seen, k, torch.from_numpy(popularity))
    for row, u in zip(found.tolist(), users.tolist(), strict=True):
        if has_user[u]:
            order = sorted(range(9), key=lambda i: (not has_item[i], -(user[u] @ item[i]), i))
            # Among items that can't be listed the order is by id.
            can = [i for i in order if has_item[i]]
            order = can + [i for i in range(9) if not has_item[i]]
        else:
            order = sorted(range(9), key=lambda i: (-popularity[i], i))
        wanted = [i for i in order if not mask[u, i]][:k]
        assert row == wanted + [-1] * (k - len(wanted))


@given(st.integers(0, 200), st.integers(1, 12))
def test_lists_lose_what_is_seen(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(9)[:6] for _ in range(5)])
    lists[rng.integers(5)] = -1
    short = rng.integers(5)
    lists[short, 4:] = -1
    popularity = rng.integers(0, 4, 9)
    seen, mask = _seen(rng, 5, 9)
    found = Lists(torch.from_numpy(lists), torch.ones(9, dtype=torch.bool)).ranked(
        torch.arange(5), seen, k, torch.from_numpy(popularity)
    )
    for u, row in enumerate(found.tolist()):
        order = [i for i in lists[u] if i >= 0]
        if lists[u, 0] < 0:
            order = sorted(range(9), key=lambda i: (-popularity[i], i))
        wanted = [i for i in order if not mask[u, i]][:k]
        assert row == wanted + [-1] * (k - len(wanted))
