from __future__ import annotations

from math import exp, log, tanh

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd import RankingDistillation
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.typing import INTERACTS, Batch
from tests.distill.slopes import arrays, slopes
from tests.distill.sure import sure_items, unsure

#: Few samples and a soft discrepancy, so that weights differ between users.
HYBRID = {"warm_up": 0, "num_samples": 7, "discrepancy_sharpness": 0.02}


def weights(
    method: RankingDistillation, scores: list[float], sampled: list[float], num_unseen: int
) -> list[float]:
    """The weights of a list, place by place."""
    raw = [exp(-(r + 1) / method.position_decay) for r in range(len(scores))]
    static = [w / sum(raw) for w in raw]
    if not method.hybrid:
        return static
    product = []
    for r, score in enumerate(scores):
        above = sum(other > score for other in sampled)
        rank = above * num_unseen // len(sampled)
        product.append(static[r] * tanh(max(method.discrepancy_sharpness * (rank - r), 0.0)))
    if not method.normalize:
        return product
    return [w / sum(product) if sum(product) else 0.0 for w in product]


def oracle(
    method: RankingDistillation,
    problem,
    batch: Batch,
    x_dict: dict,
    at: dict | None = None,
) -> float:
    """The loss, with the weights of the representations ``at``, which get no gradient."""
    at = x_dict if at is None else at
    total = 0.0
    for u in sorted(set(batch.user.tolist())):
        row = method.lists[u].tolist()
        listed, drawn = row[: method.num_listed], row[method.num_listed :]
        listed, sure = [i for i in listed if i >= 0], sure_items(problem, u)

        def scores(items: list[int], x: dict, user: int = u) -> list[float]:
            return [method.scale * float(x["user"][user] @ x["item"][i]) for i in items]

        num_unseen = 60 - len(problem.seen[u])
        weight = weights(method, scores(listed, at), scores(drawn, at), num_unseen)
        for i, w, s in zip(listed, weight, scores(listed, x_dict), strict=True):
            total += sure[i] * w * log(1 + exp(-s))
    return total


@pytest.mark.parametrize("options", [{}, HYBRID, {**HYBRID, "normalize": False}])
@pytest.mark.parametrize("num_listed", [1, 10, 30])
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("sure", [True, False])
def test_value_and_gradient(problem, options, num_listed: int, scale: float, sure: bool) -> None:
    problem = problem if sure else unsure(problem)
    method = RankingDistillation(
        num_listed=num_listed, position_decay=4.0, scale=scale, **options
    ).bind(problem.graph, 4)
    for user, row in enumerate(method.lists[:, :num_listed].tolist()):
        assert [i for i in row if i >= 0] == [*sure_items(problem, user, num_listed)]
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    student = arrays(problem.x_dict)
    expected = oracle(method, problem, problem.batch, student)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    found, expected = slopes(
        lambda at: oracle(method, problem, problem.batch, at, at=student), problem.x_dict
    )
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_samples_learn_nothing(problem) -> None:
    method = RankingDistillation(**HYBRID).bind(problem.graph, 4)
    method(problem.x_dict, problem.graph, problem.batch).backward()
    users = problem.batch.user.unique()
    learning = problem.x_dict["item"].grad.abs().sum(1).nonzero().squeeze(1)
    assert set(learning.tolist()) <= set(method.lists[users, :10].unique().tolist())
    learning = problem.x_dict["user"].grad.abs().sum(1).nonzero().squeeze(1)
    assert set(learning.tolist()) <= set(users.tolist())


def test_the_discrepancy_counts_after_the_warm_up(problem) -> None:
    method = RankingDistillation(warm_up=2, num_samples=7).bind(problem.graph, 4)
    student, losses = arrays(problem.x_dict), []
    for epoch in range(4):
        method.on_epoch_start(epoch, 4)
        assert method.hybrid == (epoch >= 2)
        losses.append(method(problem.x_dict, problem.graph, problem.batch).item())
        assert losses[-1] == pytest.approx(
            oracle(method, problem, problem.batch, student), rel=1e-9
        )
    assert losses[0] == losses[1]  # nothing is random before
    assert len(set(losses[1:])) == 3


def test_weights_are_shares(problem) -> None:
    # With scores of 0 every term is log 2, and no sample is above.
    problem.x_dict["user"].data.zero_()
    num_users = problem.batch.user.unique().numel()
    static = RankingDistillation().bind(problem.graph, 4)
    loss = static(problem.x_dict, problem.graph, problem.batch).item()
    assert loss == pytest.approx(num_users * log(2), rel=1e-6)
    hybrid = RankingDistillation(warm_up=0).bind(problem.graph, 4)
    assert hybrid(problem.x_dict, problem.graph, problem.batch).item() == 0


@pytest.mark.parametrize("normalize", [True, False])
def test_what_the_student_ranks_well_is_left_out(problem, normalize: bool) -> None:
    x_dict = {"user": torch.ones(25, 1), "item": torch.zeros(60, 1)}
    x_dict["item"][problem.ranked[0, :10]] = torch.arange(10.0, 0.0, -1.0).unsqueeze(1)
    batch = Batch(*torch.tensor([[0], [1], [2]]))
    options = {"discrepancy_sharpness": 5.0, "normalize": normalize}
    method = RankingDistillation(warm_up=0, num_samples=1000, num_listed=1, **options)
    assert method.bind(problem.graph, 1)(x_dict, problem.graph, batch).item() == 0
    # Below everything else, each place is far off, and only its position counts.
    x_dict["item"].neg_()
    losses = [
        RankingDistillation(warm_up=w, **options).bind(problem.graph, 1)(
            x_dict, problem.graph, batch
        )
        for w in (0, 1)
    ]
    torch.testing.assert_close(*losses)


def same_everywhere(num_users: int, seen: list[int], ranked: list[int], num_items: int):
    """A graph whose users all have the same history and the same list."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    user = torch.arange(num_users).repeat_interleave(len(seen))
    data[INTERACTS].edge_index = torch.stack(
        [user, torch.tensor(seen, dtype=torch.long).repeat(num_users)]
    )
    data["user"].teacher_items = torch.tensor(ranked, dtype=torch.int32).expand(num_users, -1)
    data.graph_fingerprint = graph_fingerprint(data)
    return data


def test_samples_are_uniform_among_the_unseen() -> None:
    num_users, seen = 4_000, [2, 7]
    graph = same_everywhere(num_users, seen, [0, 5, 9], 16)
    method = RankingDistillation(num_listed=3, num_samples=5).bind(graph, 4)
    before = method.lists.clone()
    method.on_epoch_start(1, 2)
    assert torch.equal(before[:, :3], method.lists[:, :3])
    assert not torch.equal(before[:, 3:], method.lists[:, 3:])
    count = np.bincount(method.lists[:, 3:].long().flatten(), minlength=16)
    left = [i for i in range(16) if i not in seen]
    assert [i for i in range(16) if count[i]] == left
    num, share = num_users * 5, 1 / len(left)
    assert (np.abs(count[left] - num * share) < 5 * (num * share * (1 - share)) ** 0.5).all()


def test_the_estimated_rank_is_right_on_average() -> None:
    # Without a history, item r is the student's r-th; its rank has the mean r.
    num_users, num_items = 4_000, 50
    graph = same_everywhere(num_users, [], list(range(num_items)), num_items)
    method = RankingDistillation(num_listed=num_items, num_samples=25, warm_up=0).bind(graph, 1)
    scores = -torch.arange(float(num_items)).expand(num_users, -1).contiguous()
    sampled = scores.gather(1, method.lists[:, num_items:].long())
    rank = method._rank(scores, sampled, torch.full((num_users,), num_items))
    assert torch.equal(rank, rank.round())
    expected = np.arange(num_items)
    share = expected / num_items
    sigma = num_items * np.sqrt(share * (1 - share) / 25 / num_users)
    assert (np.abs(rank.mean(0).numpy() - expected) <= 5 * sigma).all()


def test_short_lists_are_padded(problem) -> None:
    user = int(problem.batch.user[0])
    problem.graph["user"].teacher_items[user, 3:] = -1
    for options in ({}, HYBRID):
        method = RankingDistillation(**options).bind(problem.graph, 4)
        loss = method(problem.x_dict, problem.graph, problem.batch)
        loss.backward()
        expected = oracle(method, problem, problem.batch, arrays(problem.x_dict))
        assert loss.item() == pytest.approx(expected, rel=1e-9)
        assert all(bool(x.grad.isfinite().all()) for x in problem.x_dict.values())


@pytest.mark.parametrize("options", [{}, HYBRID])
def test_users_without_a_ranking_contribute_nothing(problem, options: dict) -> None:
    user = int(problem.batch.user[0])
    problem.graph["user"].teacher_items[user] = -1
    method = RankingDistillation(**options).bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    keep = problem.batch.user != user
    others = Batch(*(getattr(problem.batch, n)[keep] for n in ("user", "positive", "negative")))
    expected = oracle(method, problem, others, arrays(problem.x_dict))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert not problem.x_dict["user"].grad[user].any()


def test_a_user_who_has_seen_everything() -> None:
    graph = same_everywhere(3, [0, 1, 2, 3], [-1, -1], 4)
    lists = graph["user"].teacher_items.clone()
    lists[2] = torch.tensor([3, 1])  # one list, or there would be nothing to learn
    graph["user"].teacher_items = lists
    method = RankingDistillation(num_listed=2, num_samples=5, warm_up=0).bind(graph, 2)
    assert bool((method.lists[:2] == -1).all())
    x_dict = {"user": torch.randn(3, 2, requires_grad=True), "item": torch.randn(4, 2)}
    loss = method(x_dict, graph, Batch(*torch.tensor([[0, 1], [1, 1], [2, 2]])))
    loss.backward()
    assert loss.item() == 0 and not x_dict["user"].grad.any()


@pytest.mark.parametrize("options", [{}, {"warm_up": 0}])
def test_large_scores_stay_finite(problem, options: dict) -> None:
    method = RankingDistillation(**options).bind(problem.graph, 4)
    x_dict = {k: (x.detach() * 100).requires_grad_() for k, x in problem.x_dict.items()}
    loss = method(x_dict, problem.graph, problem.batch)
    loss.backward()
    assert bool(loss.isfinite()) and loss.item() > 0
    assert all(bool(x.grad.isfinite().all()) for x in x_dict.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_listed": 0}, r"'num_listed' must be a positive integer \(got 0\)"),
        ({"position_decay": 0.0}, "'position_decay'.*0.0"),
        ({"discrepancy_sharpness": 0.0}, "'discrepancy_sharpness'.*0.0"),
        ({"num_samples": 0}, "'num_samples'.*0"),
        ({"warm_up": -1}, r"'warm_up' must be an integer of 0 or more \(got -1\)"),
        ({"scale": 0.0}, "'scale'.*0.0"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankingDistillation(**options)


def test_lists_shorter_than_asked_for(problem) -> None:
    with pytest.raises(ValueError, match=r"'num_listed' is 31.*30 items.*num_items >= 31"):
        RankingDistillation(num_listed=31).bind(problem.graph, 4)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_an_item_is_not_above_itself(dtype: torch.dtype) -> None:
    """Draws that outnumber the catalogue hold each listed item too, of batches of any size."""
    num_users, num_items = 20, 40
    graph, user = HeteroData(), torch.arange(num_users)
    graph["user"].num_nodes, graph["item"].num_nodes = num_users, num_items
    graph[INTERACTS].edge_index = torch.stack([user, user])
    x_user = torch.randn(num_users, 20, dtype=dtype)
    x_item = torch.randn(num_items, 20, dtype=dtype)
    scores = (x_user @ x_item.t()).index_put((user, user), torch.tensor(-torch.inf, dtype=dtype))
    graph["user"].teacher_items = scores.topk(1).indices.int()
    graph.graph_fingerprint, graph.teacher_fingerprint = graph_fingerprint(graph), "best"
    method = RankingDistillation(num_listed=1, warm_up=0, num_samples=100).bind(graph, 20)
    for rows in [user, *user.split(1)]:
        assert method({"user": x_user, "item": x_item}, graph, Batch(rows, rows, rows)) == 0
