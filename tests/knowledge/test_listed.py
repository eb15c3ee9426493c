from __future__ import annotations

import copy

import pytest
import torch

from pyg_kd import evaluate, extract_knowledge
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import Listed
from pyg_kd.models import EASE
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def split():
    data = SyntheticInteractions(num_users=120, num_items=70, num_edges=2_400)[0]
    return UserSplit(seed=0)(data)


@pytest.fixture(scope="module")
def graph(split):
    return extract_knowledge(EASE(split[0]), split[0], num_items=30, progress=False)


def test_scores_are_places_from_the_end(graph) -> None:
    model, lists = Listed(graph), graph["user"].teacher_items
    expected = torch.zeros(120, 70)
    for user, row in enumerate(lists.tolist()):
        for rank, item in enumerate(row):
            if item >= 0:
                expected[user, item] = 30 - rank
    x = model(graph)
    assert torch.equal(model.score_block(x["user"], x["item"]), expected)
    users, items = torch.tensor([5, 0, 7]), torch.randperm(70)[:40]
    block = model.score_block(x["user"][users], x["item"][items])
    assert torch.equal(block, expected[users][:, items])
    assert model.score_block(x["user"], x["item"][:0]).shape == (120, 0)
    pairs = torch.cartesian_prod(torch.arange(120), torch.arange(70)).t()
    assert torch.equal(model.score(x, pairs), expected[pairs[0], pairs[1]])


def test_it_is_measured_as_the_model_whose_lists_it_has(split, graph) -> None:
    train, _, test = split
    found = evaluate(Listed(graph), train, test, k=(5, 20))
    assert found == evaluate(EASE(train), train, test, k=(5, 20))
    assert found["recall@20"] > 0.3


def test_padding_is_no_item(graph) -> None:
    short = copy.copy(graph)
    short["user"].teacher_items = graph["user"].teacher_items.clone()
    short["user"].teacher_items[3, 2:] = -1
    x = (model := Listed(short))(short)
    row = model.score_block(x["user"][3:4], x["item"])[0]
    assert row.nonzero().flatten().sort().values.tolist() == sorted(
        short["user"].teacher_items[3, :2].tolist()
    )


def test_bad_input(split, graph) -> None:
    with pytest.raises(ValueError, match="teacher_items"):
        Listed(split[0])
    other = SyntheticInteractions(num_users=50, num_items=70, num_edges=900)[0]
    with pytest.raises(ValueError, match="'data' has 50 users"):
        Listed(graph)(other)
