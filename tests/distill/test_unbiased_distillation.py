from __future__ import annotations

from math import exp, log1p

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd import UnbiasedDistillation
from pyg_kd.distill.unbiased_distillation import popularity_groups
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.typing import INTERACTS, Batch
from tests.distill.slopes import arrays, slopes

SMALL = {"num_groups": 3, "num_pairs": 4, "num_ranked": 6, "temperature": 2.0}


def grouped(popularity: list[int], num_groups: int) -> list[int]:
    """The group of every item: where the middle of its equals falls, from the most popular."""
    total = sum(popularity)
    groups = []
    for mine in popularity:
        above = sum(p for p in popularity if p > mine)
        equal = sum(p for p in popularity if p == mine)
        groups.append(int((above + equal / 2) / total * num_groups) if mine else -1)
    return groups


def popularity_of(problem) -> list[int]:
    return [sum(i in problem.seen[u] for u in range(25)) for i in range(60)]


def rankings(problem, num_groups: int) -> list[list[list[int]]]:
    """Unseen items by user and group, best first."""
    group = grouped(popularity_of(problem), num_groups)
    teacher = {key: problem.graph[key].teacher_x.double().numpy() for key in ("user", "item")}
    ranked = []
    for u in range(25):
        order = np.argsort(-(teacher["item"] @ teacher["user"][u])).tolist()
        order = [i for i in order if i not in problem.seen[u]]
        ranked.append([[i for i in order if group[i] == g] for g in range(num_groups)])
    return ranked


def pairs_of(method: UnbiasedDistillation, user: int) -> list[tuple[int, int]]:
    better, worse = method.pairs[user].transpose(0, 1).flatten(1).tolist()
    return list(zip(better, worse, strict=True))


def oracle(method: UnbiasedDistillation, batch: Batch, x_dict: dict) -> float:
    """The loss of the pairs that the method drew, one by one."""
    total = 0.0
    for u in sorted(set(batch.user.tolist())):
        for better, worse in pairs_of(method, u):
            if better >= 0:
                gap = x_dict["user"][u] @ (x_dict["item"][better] - x_dict["item"][worse])
                total += log1p(exp(-method.scale * float(gap)))
    return total


@pytest.mark.parametrize("options", [SMALL, {}, {"num_groups": 1, "num_pairs": 1}])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_value_and_gradient(problem, options: dict, scale: float) -> None:
    method = UnbiasedDistillation(**options, scale=scale).bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    assert loss.item() == pytest.approx(oracle(method, problem.batch, student), rel=1e-9)
    found, expected = slopes(lambda at: oracle(method, problem.batch, at), problem.x_dict)
    assert found == pytest.approx(expected, rel=1e-6)


def test_only_users_of_the_batch_and_their_pairs_learn(problem) -> None:
    method = UnbiasedDistillation(**SMALL).bind(problem.graph, 4)
    method(problem.x_dict, problem.graph, problem.batch).backward()
    users = problem.batch.user.unique()
    learning = {k: x.grad.abs().sum(1).nonzero().squeeze(1) for k, x in problem.x_dict.items()}
    assert torch.equal(learning["user"], users)
    items = method.pairs[users].unique().long()
    assert set(learning["item"].tolist()) <= set(items.tolist())


@pytest.mark.parametrize("num_groups", [1, 2, 4, 7])
def test_groups(num_groups: int) -> None:
    popularity = np.random.default_rng(0).zipf(1.6, 300).clip(max=60) - 1
    found = popularity_groups(torch.from_numpy(popularity), num_groups)
    assert found.tolist() == grouped(popularity.tolist(), num_groups)


def test_groups_have_equal_mass_and_ids_do_not_matter() -> None:
    popularity = torch.from_numpy(np.random.default_rng(0).permutation(2000))  # all different
    group = popularity_groups(popularity, 4)
    mass = torch.stack([popularity[group == g].sum() for g in range(4)]).double()
    torch.testing.assert_close(mass, torch.full_like(mass, mass.mean()), rtol=2e-3, atol=0)
    assert int((group == -1).sum()) == 1 and int(group[popularity == 0]) == -1
    for g in range(3):
        assert int(popularity[group == g].min()) > int(popularity[group == g + 1].max())
    order = torch.randperm(2000)
    assert torch.equal(popularity_groups(popularity[order], 4), group[order])


def test_one_item_with_most_of_the_mass() -> None:
    assert popularity_groups(torch.tensor([1, 0, 98, 1]), 4).tolist() == [3, -1, 1, 3]
    assert popularity_groups(torch.zeros(3, dtype=torch.long), 2).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("num_ranked", [2, 6, 100])
def test_every_group_is_ranked_by_the_teacher(problem, num_ranked: int) -> None:
    method = UnbiasedDistillation(num_groups=3, num_ranked=num_ranked).bind(problem.graph, 4)
    assert method.ranked.shape == (25, 3, num_ranked) and method.ranked.dtype == torch.int32
    expected = rankings(problem, 3)
    for user in range(25):
        for g in range(3):
            row = expected[user][g][:num_ranked]
            assert method.ranked[user, g].tolist() == row + [-1] * (num_ranked - len(row))


def test_pairs_are_of_one_group_in_the_teachers_order(problem) -> None:
    method = UnbiasedDistillation(**SMALL).bind(problem.graph, 4)
    expected, draws = rankings(problem, 3), []
    for epoch in range(10):
        method.on_epoch_start(epoch, 10)
        draws.append(method.pairs.clone())
        for user in range(25):
            pairs = pairs_of(method, user)
            assert len(pairs) == 12
            for number, (better, worse) in enumerate(pairs):
                row = expected[user][number // 4][:6]  # four of each group
                assert row.index(better) < row.index(worse)
    assert not any(torch.equal(draws[0], other) for other in draws[1:])


@pytest.mark.parametrize(("num_ranked", "temperature"), [(5, 2.0), (5, 1e9), (3, 0.5), (2, 1.0)])
def test_pairs_follow_the_law(num_ranked: int, temperature: float) -> None:
    num_users = 20_000
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, 7
    # One user has chosen every item, so that all are as popular.
    data[INTERACTS].edge_index = torch.stack([torch.zeros(7, dtype=torch.long), torch.arange(7)])
    data["user"].teacher_x = torch.ones(num_users, 1)
    data["item"].teacher_x = -torch.arange(7.0).unsqueeze(1)
    data.graph_fingerprint = graph_fingerprint(data)
    method = UnbiasedDistillation(
        num_groups=1, num_pairs=1, num_ranked=num_ranked, temperature=temperature
    ).bind(data, 4)
    assert method.pairs[0].flatten().tolist() == [-1, -1]  # nothing is unseen
    drawn = method.pairs[1:].long().flatten(1)
    count = np.zeros((num_ranked, num_ranked))
    np.add.at(count, (drawn[:, 0].numpy(), drawn[:, 1].numpy()), 1)
    # Two draws from the law, again and again until they differ.
    p = np.array([exp(-r / temperature) for r in range(num_ranked)])
    expected = np.triu(np.outer(p, p), 1)
    expected *= len(drawn) / expected.sum()
    assert (np.abs(count - expected) <= 5 * np.sqrt(expected)).all()


def test_groups_with_less_than_two_items_have_no_pairs(problem) -> None:
    user = int(problem.batch.user[0])
    method = UnbiasedDistillation(**SMALL).bind(problem.graph, 4)
    method.ranked[user, 0] = -1
    method.ranked[user, 1, 1:] = -1
    method.ranked[user, 2, 2:] = -1
    method.on_epoch_start(1, 2)
    pairs = pairs_of(method, user)
    assert pairs[:8] == [(-1, -1)] * 8
    assert set(pairs[8:]) == {tuple(method.ranked[user, 2, :2].tolist())}
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    assert loss.item() == pytest.approx(oracle(method, problem.batch, student), rel=1e-9)
    assert all(bool(x.grad.isfinite().all()) for x in problem.x_dict.values())


def one_user_graph(num_items: int, seen: list[int]) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, num_items
    data[INTERACTS].edge_index = torch.tensor([[0] * len(seen), seen])
    data["user"].teacher_x, data["item"].teacher_x = torch.randn(1, 3), torch.randn(num_items, 3)
    data.graph_fingerprint = graph_fingerprint(data)
    return data


def test_nothing_to_draw_is_said() -> None:
    # What the only user has not seen has no popularity, so no group holds it.
    message = r"no pair to draw: none of the 1 users.*\(got num_groups=4\)"
    with pytest.raises(ValueError, match=message):
        UnbiasedDistillation().bind(one_user_graph(9, [1, 2, 5]), 4)


def test_users_without_pairs_contribute_nothing(problem) -> None:
    user = int(problem.batch.user[0])
    method = UnbiasedDistillation(**SMALL).bind(problem.graph, 4)
    method.ranked[user] = -1
    method.on_epoch_start(1, 2)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    assert loss.item() == pytest.approx(oracle(method, problem.batch, student), rel=1e-9)
    assert not problem.x_dict["user"].grad[user].any()


def test_more_groups_than_popularities(problem) -> None:
    method = UnbiasedDistillation(num_groups=50).bind(problem.graph, 4)
    empty = (method.ranked < 0).all(2).all(0)
    assert 0 < int(empty.sum()) < 50
    loss = method(problem.x_dict, problem.graph, problem.batch).item()
    expected = oracle(method, problem.batch, arrays(problem.x_dict))
    assert loss == pytest.approx(expected, rel=1e-9)


def test_large_scores_stay_finite(problem) -> None:
    method = UnbiasedDistillation(**SMALL).bind(problem.graph, 4)
    x_dict = {k: (x.detach() * 100).requires_grad_() for k, x in problem.x_dict.items()}
    loss = method(x_dict, problem.graph, problem.batch)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(x.grad.isfinite().all()) for x in x_dict.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_groups": 0}, r"'num_groups' must be a positive integer \(got 0\)"),
        ({"num_pairs": 0}, "'num_pairs'.*0"),
        ({"num_ranked": 1}, r"'num_ranked' must be an integer of 2 or more \(got 1\)"),
        ({"temperature": 0.0}, "'temperature'.*0.0"),
        ({"scale": 0.0}, "'scale'.*0.0"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UnbiasedDistillation(**options)
