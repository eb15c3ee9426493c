from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.datasets import from_interactions
from pyg_kd.graph import interactions
from pyg_kd.retrieval.fold_in import FoldIn, fit_fold_in, fit_item_fold_in
from pyg_kd.study.refresh import Recipe, Tables, folded
from pyg_kd.study.refresh.newcomers import HOLDOUT_USERS
from pyg_kd.transforms import TimeStep
from pyg_kd.typing import INTERACTS, ITEM, USER


def _items(graph: HeteroData, users: int) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(users)]
    for user, item in interactions(graph).edge_index.t().tolist():
        found[user].append(item)
    return [sorted(items) for items in found]


def _csr(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum([0, *map(len, rows)]), np.array([*chain.from_iterable(rows)], np.int64)


@pytest.fixture(scope="module")
def student(steps: list[TimeStep]) -> Tables:
    found = Recipe().new_teacher(steps[0].test, 0)
    assert isinstance(found, Tables)
    return found


def test_against_a_loop_over_users_and_items(steps: list[TimeStep], student: Tables) -> None:
    before, after = steps[0].test, steps[2].test
    found = folded(student, before, after, seed=3)
    num_users = interactions(before).num_users
    old_items = student.has_item.nonzero().view(-1).tolist()
    number = {item: place for place, item in enumerate(old_items)}
    was, now = (
        [[number[i] for i in items if i in number] for items in _items(graph, num_users)]
        for graph in (before, after)
    )
    known = student.has_user.tolist()
    y, x = student.item[student.has_item].numpy(), student.user.numpy()
    rule = fit_fold_in(
        y, *_csr([was[u] for u in range(num_users) if known[u]]), x_user=x[known],
        holdout_users=HOLDOUT_USERS, seed=3,
    )  # fmt: skip
    kinds = {"kept": 0, "moved": 0, "new": 0, "none": 0}
    for u in range(num_users):
        f_now, f_was = rule(*_csr([now[u]]))[0], rule(*_csr([was[u]]))[0]
        if known[u] and was[u] == now[u]:
            kinds["kept"] += 1
            wanted = x[u]
        elif known[u]:
            kinds["moved"] += 1
            wanted = f_now + len(was[u]) / len(now[u]) * (x[u] - f_was)
        else:
            kinds["new" if now[u] else "none"] += 1
            wanted = f_now
        assert bool(found.has_user[u]) == bool(known[u] or now[u])
        assert np.allclose(found.user[u], wanted, atol=1e-4)
    assert kinds["moved"] and kinds["new"]
    # New items, from the vectors of their users.
    holders = student.has_user.nonzero().view(-1).tolist()
    place = {user: row for row, user in enumerate(holders)}
    of_item = [
        [place[u] for u in range(num_users) if known[u] and number[i] in was[u]] for i in old_items
    ]
    maps = fit_item_fold_in(x[known], y, *_csr(of_item), seed=3).by_users
    assert torch.equal(found.item[student.has_item], student.item[student.has_item])
    later, fresh = _items(after, num_users), 0
    for item in (~student.has_item).nonzero().view(-1).tolist():
        users = [u for u in range(num_users) if item in later[u] and bool(found.has_user[u])]
        if not users:
            assert not found.has_item[item] and not found.item[item].any()
            continue
        fresh += 1
        table = FoldIn("regression", found.user[users].numpy(), arrays=maps.arrays)
        wanted = table([0, len(users)], range(len(users)))[0]
        assert bool(found.has_item[item]) and np.allclose(found.item[item], wanted, atol=1e-4)
    assert fresh


def test_nothing_new_changes_nothing(steps: list[TimeStep], student: Tables) -> None:
    found = folded(student, steps[0].test, steps[0].test)
    for name in ("user", "item", "has_user", "has_item"):
        assert torch.equal(getattr(found, name), getattr(student, name))


def test_users_of_new_items_alone_come_last() -> None:
    rng = np.random.default_rng(0)
    edges = [(u, i) for u in range(20) for i in rng.permutation(12)[:5]]
    late = [(u, 12) for u in range(20)] + [(20, 12)]  # user 20 has the new item alone
    graphs = []
    for pairs in (edges, edges + late):
        graph = from_interactions([[0, 20], [0, 12]])
        graph[USER].num_nodes, graph[ITEM].num_nodes = 21, 13
        graph[INTERACTS].edge_index = torch.tensor(pairs).t().contiguous()
        graphs.append(graph)
    tables = Recipe().new_teacher(graphs[0], 0)
    assert isinstance(tables, Tables) and not tables.has_user[20] and not tables.has_item[12]
    found = folded(tables, *graphs)
    assert bool(found.has_item[12]) and bool(found.has_user[20]) and bool(found.user[20].any())
