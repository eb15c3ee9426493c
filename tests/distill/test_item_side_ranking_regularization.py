from __future__ import annotations

import copy
from itertools import permutations
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd import ItemSideRankingRegularization, RelaxedRankingDistillation
from pyg_kd.distill import Distillation
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.typing import INTERACTS, Batch
from tests.distill.slopes import arrays, slopes

SMALL = {"num_interesting": 5, "num_uninteresting": 4}
#: Lists of users so short that a batch of 16 leaves some of the 60 items out.
FEW = {"num_interesting": 2, "num_uninteresting": 1}
WIDTH = 12


@pytest.fixture
def problem(problem):
    """With a ranking of 12 users for every item."""
    rng = np.random.default_rng(1)
    problem.fans = [{u for u in range(25) if i in problem.seen[u]} for i in range(60)]
    problem.ranked_users = np.stack(
        [rng.permutation(sorted(set(range(25)) - fans))[:WIDTH] for fans in problem.fans]
    )
    problem.graph["item"].teacher_users = torch.from_numpy(problem.ranked_users).to(torch.int32)
    return problem


def list_loss(scores: list[float], tail: list[float]) -> float:
    total = 0.0
    for k in range(len(scores)):
        below = sum(map(exp, scores[k:])) + sum(map(exp, tail))
        total -= log(exp(scores[k]) / below)
    return total


def touched(lists: Tensor, batch: Batch, num: int | None = None) -> list[int]:
    listed = {i for u in batch.user.tolist() for i in lists[u, :num].tolist()}
    return sorted(listed - {-1})


def oracle(
    method: ItemSideRankingRegularization, items: list[int], student: dict[str, np.ndarray]
) -> float:
    """The loss of the lists that the method drew, item by item and place by place."""
    total, k = 0.0, method.num_interesting
    for i in items:
        parts = method.lists[i, :k].tolist(), method.lists[i, k:].tolist()
        listed, tail = (
            [method.scale * float(student["user"][u] @ student["item"][i]) for u in part if u >= 0]
            for part in parts
        )
        total += list_loss(listed, tail)
    return total


@pytest.mark.parametrize("expand", ["both", "interesting"])
@pytest.mark.parametrize("position", ["top", "exponential"])
@pytest.mark.parametrize("sizes", [(5, 4), (1, 1), (12, 20)])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_value_and_gradient(problem, position, sizes, scale, expand) -> None:
    rrd = RelaxedRankingDistillation(**FEW)
    method = ItemSideRankingRegularization(
        num_interesting=sizes[0],
        num_uninteresting=sizes[1],
        position=position,
        scale=scale,
        expand=expand,
        ranking=rrd,
    ).bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    items = touched(rrd.lists, problem.batch, 2 if expand == "interesting" else None)
    assert 0 < len(items) < 60
    assert loss.item() == pytest.approx(oracle(method, items, student), rel=1e-9)
    found, expected = slopes(lambda at: oracle(method, items, at), problem.x_dict)
    assert found == pytest.approx(expected, rel=1e-6)


def test_only_listed_items_and_their_users_learn(problem) -> None:
    rrd = RelaxedRankingDistillation(**FEW)
    method = ItemSideRankingRegularization(**FEW, ranking=rrd).bind(problem.graph, 4)
    batch = Batch(*(getattr(problem.batch, n)[:2] for n in ("user", "positive", "negative")))
    method(problem.x_dict, problem.graph, batch).backward()
    learning = {k: x.grad.abs().sum(1).nonzero().squeeze(1) for k, x in problem.x_dict.items()}
    items = touched(rrd.lists, batch)
    assert learning["item"].tolist() == items
    assert torch.equal(learning["user"], method.lists[items].unique().long())
    assert 0 < len(learning["user"]) < 25


def test_lists_of_users(problem) -> None:
    rrd = RelaxedRankingDistillation(**FEW)
    method = ItemSideRankingRegularization(**SMALL, ranking=rrd).bind(problem.graph, 4)
    before = method.lists
    method.on_epoch_start(1, 2)
    assert method.lists[:, :5].tolist() == problem.ranked_users[:, :5].tolist()
    for i, drawn in enumerate(method.lists[:, 5:].tolist()):
        below = [u for u in drawn if u >= 0]
        left = set(range(25)) - problem.fans[i] - set(problem.ranked_users[i].tolist())
        assert len(set(below)) == min(4, len(left)) and set(below) <= left
    assert not torch.equal(before[:, 5:], method.lists[:, 5:])


def test_exponential_keeps_the_order(problem) -> None:
    rrd = RelaxedRankingDistillation(**FEW)
    method = ItemSideRankingRegularization(
        **SMALL, position="exponential", num_ranked=9, ranking=rrd
    ).bind(problem.graph, 4)
    ranks = [
        [problem.ranked_users[i].tolist().index(u) for u in drawn]
        for i, drawn in enumerate(method.lists[:, :5].tolist())
    ]
    assert all(r == sorted(set(r)) and r[-1] < 9 for r in ranks)
    assert any(r != list(range(5)) for r in ranks)


def test_alone_it_draws_lists_like_rrd(problem) -> None:
    method = ItemSideRankingRegularization(**SMALL)
    method.source = RelaxedRankingDistillation(**FEW)  # 40 are more than this graph ranks
    method.bind(problem.graph, 4)
    lists = [method.source.lists]
    for epoch in (1, 2):
        method.on_epoch_start(epoch, 3)
        lists.append(method.source.lists)
        loss = method(problem.x_dict, problem.graph, problem.batch)
        items = touched(method.source.lists, problem.batch)
        assert loss.item() == pytest.approx(oracle(method, items, arrays(problem.x_dict)), rel=1e-9)
    assert not any(torch.equal(a, b) for a, b in permutations(lists, 2))
    default = ItemSideRankingRegularization().source
    assert repr(default) == repr(RelaxedRankingDistillation())


def events(methods: list[Distillation], problem) -> None:
    """What a trainer does before the batches of its second epoch."""
    for method in methods:
        method.unbind().bind(problem.graph, 4)
    for epoch in range(2):
        for method in methods:
            method.on_epoch_start(epoch, 2, problem.x_dict)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1,)])
@pytest.mark.parametrize("copied", [False, True])
def test_shared_lists_stay_shared(problem, order, copied) -> None:
    rrd = RelaxedRankingDistillation(**FEW)
    pair = [rrd, ItemSideRankingRegularization(**SMALL, ranking=rrd)]
    if copied:
        pair = copy.deepcopy(pair)
        rrd = pair[0]
    first = rrd.bind(problem.graph, 4).lists
    events([pair[place] for place in order], problem)
    assert not torch.equal(rrd.lists, first)
    student = arrays(problem.x_dict)
    for draw_again in (False, True):
        if draw_again:
            rrd.on_epoch_start(5, 9)
        loss = pair[1](problem.x_dict, problem.graph, problem.batch)
        expected = oracle(pair[1], touched(rrd.lists, problem.batch), student)
        assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert bool(rrd(problem.x_dict, problem.graph, problem.batch).isfinite())


def test_shared_method_of_another_graph(problem) -> None:
    rrd = RelaxedRankingDistillation(**FEW)
    method = ItemSideRankingRegularization(**SMALL, ranking=rrd).bind(problem.graph, 4)
    other = copy.copy(problem.graph)
    other[INTERACTS].edge_index = other[INTERACTS].edge_index[:, 1:]
    other.graph_fingerprint = graph_fingerprint(other)
    rrd.bind(other, 4)
    with pytest.raises(ValueError, match="not the graph that RelaxedRankingDistillation was bound"):
        method(problem.x_dict, problem.graph, problem.batch)
    rrd.unbind()  # bound again where it is used
    assert bool(method(problem.x_dict, problem.graph, problem.batch).isfinite())


def test_items_without_a_ranking_contribute_nothing(problem) -> None:
    rrd = RelaxedRankingDistillation(**FEW)
    alone = Batch(problem.batch.user[:1], problem.batch.positive[:1], problem.batch.negative[:1])
    item = int(problem.ranked[int(alone.user), 0])
    problem.graph["item"].teacher_users[item] = -1
    method = ItemSideRankingRegularization(**SMALL, ranking=rrd).bind(problem.graph, 4)
    assert bool((method.lists[item] == -1).all())
    loss = method(problem.x_dict, problem.graph, alone)
    loss.backward()
    others = [i for i in touched(rrd.lists, alone) if i != item]
    assert len(others) == 2
    expected = oracle(method, others, arrays(problem.x_dict))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert not problem.x_dict["item"].grad[item].any()


def test_short_lists_and_users_without_a_ranking(problem) -> None:
    user = int(problem.batch.user[0])
    problem.graph["user"].teacher_items[user] = -1
    problem.graph["item"].teacher_users[::2, 3:] = -1
    rrd = RelaxedRankingDistillation(**FEW)
    method = ItemSideRankingRegularization(**SMALL, ranking=rrd).bind(problem.graph, 4)
    assert method.lists[0, :5].tolist() == [*problem.ranked_users[0, :3].tolist(), -1, -1]
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    items = touched(rrd.lists, problem.batch)
    assert loss.item() == pytest.approx(oracle(method, items, arrays(problem.x_dict)), rel=1e-9)
    assert all(bool(x.grad.isfinite().all()) for x in problem.x_dict.values())
    alone = Batch(problem.batch.user[:1], problem.batch.positive[:1], problem.batch.negative[:1])
    assert method(problem.x_dict, problem.graph, alone).item() == 0  # nobody lists anything


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": "best"}, r"'position' must be one of \('top', 'exponential'\).*'best'"),
        ({"expand": "all"}, r"'expand' must be one of \('both', 'interesting'\).*'all'"),
        ({"num_interesting": 0}, r"'num_interesting' must be a positive integer \(got 0\)"),
        ({"num_uninteresting": 0}, "'num_uninteresting'.*0"),
        ({"temperature": 0.0}, "'temperature'.*0.0"),
        ({"scale": 0.0}, "'scale'.*0.0"),
        ({"num_ranked": 19}, r"'num_ranked' must be an integer of 20 or more \(got 19\)"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemSideRankingRegularization(**options)


def test_something_else_to_share(problem) -> None:
    with pytest.raises(TypeError, match=r"'ranking' must be a RelaxedRanking.*\(got str\)"):
        ItemSideRankingRegularization(ranking="rrd")


def test_lists_shorter_than_asked_for(problem) -> None:
    method = ItemSideRankingRegularization(
        num_interesting=13, ranking=RelaxedRankingDistillation(**FEW)
    )
    with pytest.raises(ValueError, match=r"'num_interesting' is 13.*12 users.*num_users >= 13"):
        method.bind(problem.graph, 4)


def test_repr_tells_what_is_shared() -> None:
    assert repr(ItemSideRankingRegularization()).endswith("ranking=None)")
    rrd = RelaxedRankingDistillation(num_interesting=3)
    assert repr(ItemSideRankingRegularization(ranking=rrd)).endswith(f"ranking={rrd!r})")
