from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.knowledge import extract_knowledge
from pyg_kd.knowledge.popularity import popular_unseen, weakness
from pyg_kd.models import MF
from pyg_kd.typing import INTERACTS


@pytest.fixture
def split(data) -> tuple[HeteroData, HeteroData]:
    """A graph without some of its edges, and these as targets; not every user has one."""
    edges = data[INTERACTS].edge_index
    targets = (edges[0] < 20) & (torch.rand(edges.size(1)) < 0.3)
    val = data.clone()
    for graph in (data, val):
        graph[INTERACTS].edge_index = edges[:, ~targets]
    val[INTERACTS].edge_label_index = edges[:, targets]
    return data, val


def pairs(edges: torch.Tensor) -> set[tuple[int, int]]:
    return set(map(tuple, edges.t().tolist()))


def ndcg(ranked: dict[int, list[int]], targets: set[tuple[int, int]], k: int) -> float:
    values = []
    for user, row in ranked.items():
        num = sum(u == user for u, _ in targets)
        gain = sum(1 / math.log2(r + 2) for r, i in enumerate(row[:k]) if (user, i) in targets)
        values.append(gain / sum(1 / math.log2(r + 2) for r in range(min(num, k))))
    return float(np.mean(values))


def by_popularity(train: HeteroData, users: list[int], k: int) -> dict[int, list[int]]:
    seen = pairs(train[INTERACTS].edge_index)
    degree = [sum(i == item for _, i in seen) for item in range(31)]
    order = sorted(range(31), key=lambda i: (-degree[i], i))
    return {u: [i for i in order if (u, i) not in seen][:k] for u in users}


def test_what_is_popular(split) -> None:
    train, _ = split
    users = torch.tensor([3, 0, 17])
    found = popular_unseen(train, users, 9)
    assert found.tolist() == list(by_popularity(train, users.tolist(), 9).values())


@pytest.mark.parametrize("width", [4, 25])
def test_against_popularity_itself_and_one_place_better(split, width: int) -> None:
    train, val = split
    targets, k = pairs(val[INTERACTS].edge_label_index), min(width, 20)
    users = sorted({u for u, _ in targets})
    popular = by_popularity(train, list(range(23)), width)
    lists = torch.full((23, width), -1, dtype=torch.int32)
    for user, row in popular.items():
        lists[user, : len(row)] = torch.tensor(row, dtype=torch.int32)
    value = ndcg({u: popular[u] for u in users}, targets, k)
    message = weakness(lists, train, val)
    assert message is not None and 0 < value < 1
    assert f"ndcg@{k} is {value:.4f} for its lists and {value:.4f} for the most popular" in message
    # One target moves up by a place.
    user, place = next(
        (u, r)
        for u in users
        for r in range(1, k)
        if (u, popular[u][r]) in targets and (u, popular[u][r - 1]) not in targets
    )
    lists[user, [place - 1, place]] = lists[user, [place, place - 1]]
    assert weakness(lists, train, val) is None


def test_users_that_were_not_ranked_do_not_count(split) -> None:
    train, val = split
    targets = pairs(val[INTERACTS].edge_label_index)
    lists = torch.full((23, 5), -1, dtype=torch.int32)
    assert weakness(lists, train, val) is None
    user = min(u for u, _ in targets)
    wrong = [i for i in range(31) if (user, i) not in targets][:5]
    lists[user] = torch.tensor(wrong, dtype=torch.int32)
    expected = ndcg(by_popularity(train, [user], 5), targets, 5)
    message = weakness(lists, train, val)
    if expected > 0:
        assert f"ndcg@5 is 0.0000 for its lists and {expected:.4f}" in message


def test_extraction_warns_of_such_a_teacher(split) -> None:
    train, val = split
    teacher = MF(train, 31)
    seen = torch.zeros(23, 31)
    targets = val[INTERACTS].edge_label_index
    with torch.no_grad():
        teacher.item_embedding.copy_(torch.eye(31))
        seen[targets[0], targets[1]] = -1.0
        teacher.user_embedding.copy_(seen)  # what is a target comes last
    with pytest.warns(UserWarning, match="ranks no better than popularity on 'val_data'") as found:
        extract_knowledge(teacher, train, num_items=5, val_data=val)
    assert [w.filename for w in found] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract_knowledge(teacher, train, num_items=5)
        with torch.no_grad():
            teacher.user_embedding.neg_()
        extract_knowledge(teacher, train, num_items=5, val_data=val)


def test_there_have_to_be_lists_and_targets(split, teacher) -> None:
    train, val = split
    with pytest.raises(ValueError, match=r"'val_data' needs lists to validate \(got num_items=0\)"):
        extract_knowledge(teacher, train, num_items=0, val_data=val)
    with pytest.raises(ValueError, match="'val_data' has no 'edge_label_index'"):
        extract_knowledge(teacher, train, num_items=3, val_data=train)
