from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd import RelaxedRankingDistillation
from pyg_kd.distill import relaxed_ranking_distillation
from pyg_kd.distill.relaxed_ranking_distillation import ListOptions, RankedLists
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.typing import INTERACTS, Batch
from tests.distill.slopes import arrays, slopes
from tests.distill.sure import sure_items, unsure

SMALL = {"num_interesting": 5, "num_uninteresting": 4}


def list_loss(scores: list[float], tail: list[float], weight: list[float]) -> float:
    total = 0.0
    for k in range(len(scores)):
        below = sum(map(exp, scores[k:])) + sum(map(exp, tail))
        total -= weight[k] * log(exp(scores[k]) / below)
    return total


def oracle(method: RelaxedRankingDistillation, problem, batch: Batch, x_dict: dict) -> float:
    """The loss of the lists that the method drew, user by user and place by place."""
    user, item = (x_dict[key] for key in ("user", "item"))
    total = 0.0
    for u in sorted(set(batch.user.tolist())):
        drawn = method.lists[u].tolist()
        score = {i: method.scale * float(user[u] @ item[i]) for i in drawn if i >= 0}
        k = method.num_interesting
        listed, tail = ([score[i] for i in part if i >= 0] for part in (drawn[:k], drawn[k:]))
        sure = sure_items(problem, u)
        total += list_loss(listed, tail, [sure[i] for i in drawn[:k] if i >= 0])
    return total


def same_everywhere(num_users: int, seen: list[int], ranked: list[int], num_items: int):
    """A graph whose users all have the same history and the same list."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    user = torch.arange(num_users).repeat_interleave(len(seen))
    data[INTERACTS].edge_index = torch.stack([user, torch.tensor(seen).repeat(num_users)])
    data["user"].teacher_items = torch.tensor(ranked, dtype=torch.int32).expand(num_users, -1)
    data.graph_fingerprint = graph_fingerprint(data)
    return data


@pytest.mark.parametrize("position", ["top", "exponential"])
@pytest.mark.parametrize("sizes", [(5, 4), (1, 1), (30, 20)])
@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("sure", [True, False])
def test_value_and_gradient(
    problem, position: str, sizes: tuple[int, int], scale: float, sure: bool
) -> None:
    problem = problem if sure else unsure(problem)
    method = RelaxedRankingDistillation(
        num_interesting=sizes[0], num_uninteresting=sizes[1], position=position, scale=scale
    ).bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    expected = oracle(method, problem, problem.batch, student)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    found, expected = slopes(lambda at: oracle(method, problem, problem.batch, at), problem.x_dict)
    assert found == pytest.approx(expected, rel=1e-6)


def test_only_users_of_the_batch_and_their_lists_learn(problem) -> None:
    method = RelaxedRankingDistillation(**SMALL).bind(problem.graph, 4)
    method(problem.x_dict, problem.graph, problem.batch).backward()
    users = problem.batch.user.unique()
    learning = {k: x.grad.abs().sum(1).nonzero().squeeze(1) for k, x in problem.x_dict.items()}
    assert torch.equal(learning["user"], users)
    assert torch.equal(learning["item"], method.lists[users].unique().long())


def test_top_is_the_start_of_the_ranking_at_every_epoch(problem) -> None:
    method = RelaxedRankingDistillation(**SMALL).bind(problem.graph, 4)
    for epoch in range(3):
        method.on_epoch_start(epoch, 3)
        assert method.lists[:, :5].tolist() == problem.ranked[:, :5].tolist()


def test_exponential_keeps_the_order_and_repeats_nothing(problem) -> None:
    method = RelaxedRankingDistillation(**SMALL, position="exponential").bind(problem.graph, 4)
    draws = []
    for epoch in range(20):
        method.on_epoch_start(epoch, 20)
        for user, drawn in enumerate(method.lists[:, :5].tolist()):
            ranks = [problem.ranked[user].tolist().index(i) for i in drawn]
            assert ranks == sorted(set(ranks))
        draws.append(method.lists[:, :5].clone())
    assert not any(torch.equal(draws[0], other) for other in draws[1:])


def test_exponential_frequencies() -> None:
    num_users, num_ranked, k, temperature = 20_000, 25, 5, 4.0
    graph = same_everywhere(num_users, [0], list(range(1, num_ranked + 1)), 40)
    method = RelaxedRankingDistillation(
        num_interesting=k,
        num_uninteresting=1,
        position="exponential",
        temperature=temperature,
        num_ranked=num_ranked,
    ).bind(graph, 4)
    ranks = method.lists[:, :k].long() - 1
    found = np.bincount(ranks.flatten(), minlength=num_ranked) / num_users
    # One after another, each time among those that are left.
    rng = np.random.default_rng(0)
    p = np.exp(-np.arange(num_ranked) / temperature)
    expected = np.zeros(num_ranked)
    for _ in range(20_000):
        expected[rng.choice(num_ranked, k, replace=False, p=p / p.sum())] += 1 / 20_000
    sigma = np.sqrt(expected * (1 - expected) * 2 / 20_000)
    assert (np.abs(found - expected) < 5 * sigma + 1e-4).all()


def test_a_single_exponential_draw_follows_the_law() -> None:
    num_users, num_ranked, temperature = 20_000, 12, 3.0
    graph = same_everywhere(num_users, [0], list(range(1, num_ranked + 1)), 20)
    method = RelaxedRankingDistillation(
        num_interesting=1,
        num_uninteresting=1,
        position="exponential",
        temperature=temperature,
        num_ranked=num_ranked,
    ).bind(graph, 4)
    found = np.bincount(method.lists[:, 0].long() - 1, minlength=num_ranked)
    p = np.exp(-np.arange(num_ranked) / temperature)
    expected = num_users * p / p.sum()
    assert ((found - expected) ** 2 / expected).sum() < 31.3  # chi-square, 11 degrees, p = 0.001


@pytest.mark.parametrize(("num_items", "used"), [(1200, 500), (300, 150), (90, 45), (60, 40)])
def test_half_of_a_small_catalogue_is_left_below(num_items, used) -> None:
    graph = same_everywhere(3, [num_items - 1], list(range(num_items - 1)), num_items)
    lists = RelaxedRankingDistillation(num_uninteresting=5).bind(graph, 4).lists
    assert lists[:, :40].tolist() == [list(range(40))] * 3
    assert bool((lists[:, 40:] >= used).all())


def test_lists_that_leave_nothing_below() -> None:
    graph = same_everywhere(3, [299], list(range(299)), 300)
    method = RelaxedRankingDistillation(num_ranked=299)
    with pytest.raises(ValueError, match=r"'num_ranked' is 299, which leaves none of 300 items"):
        method.bind(graph, 4)


def test_uninteresting_items_are_uniform_among_the_unlisted() -> None:
    num_users, seen, ranked = 9_000, [2, 7], [0, 5, 9, 4]
    graph = same_everywhere(num_users, seen, ranked, 16)
    method = RelaxedRankingDistillation(num_interesting=2, num_uninteresting=3).bind(graph, 4)
    drawn = method.lists[:, 2:].long()
    assert bool((drawn.sort(1).values.diff(dim=1) > 0).all())  # nothing twice
    left = [i for i in range(16) if i not in seen + ranked]
    count = np.bincount(drawn.flatten(), minlength=16)
    assert [i for i in range(16) if count[i]] == left
    share = 3 / len(left)
    sigma = (num_users * share * (1 - share)) ** 0.5
    assert (np.abs(count[left] - num_users * share) < 5 * sigma).all()


def test_uninteresting_items_are_drawn_anew(problem) -> None:
    method = RelaxedRankingDistillation(**SMALL).bind(problem.graph, 4)
    before = method.lists.clone()
    method.on_epoch_start(1, 2)
    for user in range(25):
        excluded = problem.seen[user] | set(problem.ranked[user].tolist())
        assert not excluded & set(method.lists[user, 5:].tolist())
    assert not torch.equal(before[:, 5:], method.lists[:, 5:])


@pytest.mark.parametrize("position", ["top", "exponential"])
def test_num_ranked_cuts_the_list(problem, position: str) -> None:
    method = RelaxedRankingDistillation(
        num_interesting=5, num_uninteresting=60, position=position, num_ranked=8
    ).bind(problem.graph, 4)
    for user, drawn in enumerate(method.lists.tolist()):
        listed, below = drawn[:5], {i for i in drawn[5:] if i >= 0}
        head = problem.ranked[user, :8].tolist()
        assert set(listed) <= set(head)
        # With 60 draws all that are left are drawn: what the teacher ranks further down as well.
        assert below == set(range(60)) - problem.seen[user] - set(head)


def test_users_without_a_ranking_contribute_nothing(problem) -> None:
    user = int(problem.batch.user[0])
    problem.graph["user"].teacher_items[user] = -1
    method = RelaxedRankingDistillation(**SMALL).bind(problem.graph, 4)
    assert bool((method.lists[user] == -1).all())
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    keep = problem.batch.user != user
    others = Batch(*(getattr(problem.batch, n)[keep] for n in ("user", "positive", "negative")))
    expected = oracle(method, problem, others, arrays(problem.x_dict))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert not problem.x_dict["user"].grad[user].any()
    alone = Batch(problem.batch.user[:1], problem.batch.positive[:1], problem.batch.negative[:1])
    assert method(problem.x_dict, problem.graph, alone).item() == 0


@pytest.mark.parametrize("position", ["top", "exponential"])
def test_short_lists_are_padded(problem, position: str) -> None:
    user = int(problem.batch.user[0])
    problem.graph["user"].teacher_items[user, 3:] = -1
    method = RelaxedRankingDistillation(**SMALL, position=position).bind(problem.graph, 4)
    expected = [*problem.ranked[user, :3].tolist(), -1, -1]
    assert method.lists[user, :5].tolist() == expected
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    assert loss.item() == pytest.approx(oracle(method, problem, problem.batch, student), rel=1e-9)
    assert all(bool(x.grad.isfinite().all()) for x in problem.x_dict.values())


def test_fewer_unlisted_items_than_draws(problem) -> None:
    method = RelaxedRankingDistillation(num_interesting=5, num_uninteresting=40)
    method.bind(problem.graph, 4)
    for user in range(25):
        below = [i for i in method.lists[user, 5:].tolist() if i >= 0]
        left = set(range(60)) - problem.seen[user] - set(problem.ranked[user].tolist())
        assert sorted(below) == sorted(left)
    student = arrays(problem.x_dict)
    loss = method(problem.x_dict, problem.graph, problem.batch).item()
    assert loss == pytest.approx(oracle(method, problem, problem.batch, student), rel=1e-9)


def test_large_scores_stay_finite(problem) -> None:
    method = RelaxedRankingDistillation(**SMALL).bind(problem.graph, 4)
    x_dict = {k: (x.detach() * 100).requires_grad_() for k, x in problem.x_dict.items()}
    loss = method(x_dict, problem.graph, problem.batch)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(x.grad.isfinite().all()) for x in x_dict.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": "best"}, r"'position' must be one of \('top', 'exponential'\).*'best'"),
        ({"num_interesting": 0}, r"'num_interesting' must be a positive integer \(got 0\)"),
        ({"num_uninteresting": 0}, "'num_uninteresting'.*0"),
        ({"temperature": 0.0}, "'temperature'.*0.0"),
        ({"num_ranked": 39}, r"'num_ranked' must be an integer of 40 or more \(got 39\)"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelaxedRankingDistillation(**options)


def test_lists_shorter_than_asked_for(problem) -> None:
    with pytest.raises(ValueError, match=r"'num_interesting' is 31.*30 items.*num_items >= 31"):
        RelaxedRankingDistillation(num_interesting=31).bind(problem.graph, 4)


SIZES = {"user": 20, "item": 30}
#: By node type: how many are ranked for each, so that some but not all are left over.
WIDTH = {"user": 12, "item": 8}


def options(**changed) -> ListOptions:
    return ListOptions(**{
        "num_interesting": 4, "num_uninteresting": 3, "position": "top", "temperature": 2.0,
        "num_ranked": 500,
    } | changed)  # fmt: skip


def other(node_type: str) -> str:
    return "item" if node_type == "user" else "user"


@pytest.fixture
def graph() -> HeteroData:
    """Rankings of both sides; the first of each has none, the second a short one."""
    rng = np.random.default_rng(0)
    table = rng.random((SIZES["user"], SIZES["item"])) < 0.15
    data = HeteroData()
    for node_type, size in SIZES.items():
        data[node_type].num_nodes = size
    data[INTERACTS].edge_index = torch.from_numpy(np.argwhere(table).T.copy())
    for node_type, name, own in (
        ("user", "teacher_items", table),
        ("item", "teacher_users", table.T),
    ):
        width = WIDTH[node_type]
        ranked = np.stack([rng.permutation(np.flatnonzero(~row))[:width] for row in own])
        ranked[0], ranked[1, 2:] = -1, -1
        data[node_type][name] = torch.from_numpy(ranked).to(torch.int32)
    return data


def facts(graph: HeteroData, node_type: str) -> tuple[list[set[int]], list[list[int]]]:
    """What each row has interacted with, and its ranking, in Python."""
    edges = graph[INTERACTS].edge_index
    row, col = (edges if node_type == "user" else edges.flip(0)).tolist()
    seen = [set() for _ in range(SIZES[node_type])]
    for r, c in zip(row, col, strict=True):
        seen[r].add(c)
    name = "teacher_items" if node_type == "user" else "teacher_users"
    return seen, [[c for c in r if c >= 0] for r in graph[node_type][name].tolist()]


@pytest.mark.parametrize("entries", [2**20, 30, 1])
@pytest.mark.parametrize("position", ["top", "exponential"])
@pytest.mark.parametrize("node_type", ["user", "item"])
def test_lists(graph, node_type, position, entries, monkeypatch):
    monkeypatch.setattr(relaxed_ranking_distillation, "BLOCK_ENTRIES", entries)
    lists = RankedLists(graph, node_type, options(position=position)).draw()
    assert lists.dtype == torch.int32 and lists.shape == (SIZES[node_type], 7)
    seen, ranked = facts(graph, node_type)
    for row, drawn in enumerate(lists.tolist()):
        listed, below = ([c for c in part if c >= 0] for part in (drawn[:4], drawn[4:]))
        assert len(listed) == min(4, len(ranked[row]))
        assert [ranked[row].index(c) for c in listed] == sorted(map(ranked[row].index, listed))
        if position == "top":
            assert listed == ranked[row][:4]
        left = set(range(SIZES[other(node_type)])) - seen[row] - set(ranked[row])
        assert len(set(below)) == (min(3, len(left)) if ranked[row] else 0)
        assert set(below) <= left


@pytest.mark.parametrize("node_type", ["user", "item"])
def test_all_that_is_left_is_as_likely(graph, node_type):
    rankings = RankedLists(graph, node_type, options(num_uninteresting=2, num_ranked=6))
    row, rounds = 5, 3000
    below = torch.cat([rankings.draw()[row, 4:] for _ in range(rounds)])
    seen, ranked = facts(graph, node_type)
    # Ranked further down than `num_ranked` is not ranked.
    left = sorted(set(range(SIZES[other(node_type)])) - seen[row] - set(ranked[row][:6]))
    count = np.bincount(below, minlength=SIZES[other(node_type)])
    assert np.flatnonzero(count).tolist() == left
    share = 2 / len(left)
    sigma = (rounds * share * (1 - share)) ** 0.5
    assert (np.abs(count[left] - rounds * share) < 5 * sigma).all()


def draws(rankings: RankedLists) -> list[Tensor]:
    torch.manual_seed(0)
    return [rankings.draw() for _ in range(2)]


def test_a_seed_decides_and_every_draw_is_new(graph):
    rankings = RankedLists(graph, "item", options())
    first, again = draws(rankings), draws(rankings)
    assert all(map(torch.equal, first, again)) and not torch.equal(*first)


@pytest.mark.parametrize(
    ("node_type", "message"),
    [("user", "12 items a user.*num_items >= 13"), ("item", "8 users an item.*num_users >= 13")],
)
def test_shorter_rankings_than_lists(graph, node_type, message):
    with pytest.raises(ValueError, match=rf"'num_interesting' is 13.*{message}"):
        RankedLists(graph, node_type, options(num_interesting=13))
