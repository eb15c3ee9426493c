from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd import RejuvenatedCrossEntropy
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.typing import INTERACTS, Batch
from tests.distill.slopes import arrays, slopes
from tests.distill.sure import sure_items, unsure

SMALL = {"num_listed": 8, "num_sampled": 6, "num_candidates": 20}


def ranking(problem, user: int, x_dict: dict[str, np.ndarray]) -> list[int]:
    """The unseen items, best first, as a student ranks them."""
    scores = x_dict["user"][user] @ x_dict["item"].T
    return [i for i in np.argsort(-scores).tolist() if i not in problem.seen[user]]


def taught(problem, user: int, num: int) -> list[int]:
    return [*sure_items(problem, user, num)]


def log_weights(variant: str, ranked: list[int], teacher: list[int], k: int, tau: float) -> list:
    """z_j / tau of the candidates, by counting."""
    own, out = set(ranked[:k]), []
    for place in range(len(ranked)):
        if variant == "paper":
            count = sum(i in teacher and i not in own for i in ranked[place + 1 :])
        else:
            count = min(sum(i in teacher for i in ranked[place:]), 50)
        out.append(count / tau)
    return out


def lists(method: RejuvenatedCrossEntropy, user: int) -> tuple[set[int], set[int]]:
    """The student's own top items and those that were drawn, as the method holds them."""
    row, k = method.lists[user].tolist(), method.num_listed
    end = k + method.num_sampled
    return {i for i in row[:k] if i >= 0}, {i for i in row[k:end] if i >= 0}


def teacher_score(problem, user: int, item: int) -> float:
    """The teacher's inner product, or what its list says, or else the least that it says."""
    store = problem.graph["user"]
    if "teacher_x" in store:
        return float(
            store.teacher_x[user].double() @ problem.graph["item"].teacher_x[item].double()
        )
    place = store.teacher_items[user].tolist()
    said = {i: float(store.teacher_scores[user, place.index(i)]) for i in sure_items(problem, user)}
    return said.get(item, min(said.values()))


def cross_entropy(scores: list[float], teacher: list[float], weight: list[float]) -> float:
    p = [exp(t - max(teacher)) for t in teacher]
    lse = log(sum(exp(s) for s in scores)) if scores else 0.0
    return sum(w * v / sum(p) * (lse - s) for w, v, s in zip(weight, p, scores, strict=True))


def oracle(method: RejuvenatedCrossEntropy, problem, users: list[int], x_dict: dict) -> float:
    """The formula with the lists that were drawn, in float64."""
    total = 0.0
    for u in users:
        wanted = taught(problem, u, method.num_listed)
        sure = sure_items(problem, u, method.num_listed)
        if not wanted:
            continue
        own, drawn = lists(method, u)
        known = drawn if method.variant == "reference" else own
        gamma = exp(-method.beta * len(set(wanted) & known) / len(wanted))
        for share, items in ((1 - gamma, own), (gamma, drawn | (set(wanted) - own))):
            items = sorted(items)
            s = [method.scale * float(x_dict["user"][u] @ x_dict["item"][i]) for i in items]
            t = [teacher_score(problem, u, i) for i in items]
            s, t = ([v / method.temperature for v in values] for values in (s, t))
            mean = sum(sure.values()) / len(sure)
            total += share * cross_entropy(s, t, [sure.get(i, mean) for i in items])
    return total


def check(method: RejuvenatedCrossEntropy, problem) -> None:
    """Value and gradient, along a random direction, against the oracle."""
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    users, student = problem.batch.unique_users.tolist(), arrays(problem.x_dict)
    assert loss.item() == pytest.approx(oracle(method, problem, users, student), rel=1e-9)
    found, expected = slopes(lambda at: oracle(method, problem, users, at), problem.x_dict)
    assert found == pytest.approx(expected, rel=1e-6)


OPTIONS = [
    {},
    {"beta": 0.0},
    {"beta": 7.0, "num_sampled": 20},
    {"temperature": 2.0, "scale": 3.0},
    {"num_listed": 1, "num_sampled": 1},
    {"num_listed": 30, "num_candidates": 200},
]


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("sure", [True, False])
def test_value_and_gradient(problem, variant: str, options: dict, sure: bool) -> None:
    problem = problem if sure else unsure(problem)
    method = RejuvenatedCrossEntropy(variant=variant, **(SMALL | options)).bind(problem.graph, 4)
    method.on_epoch_start(0, 1, problem.x_dict)
    check(method, problem)


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("sure", [True, False])
def test_scores_that_lists_carry(problem, variant: str, sure: bool) -> None:
    for node_type in ("user", "item"):
        del problem.graph[node_type].teacher_x
    problem.graph["user"].teacher_items[2, 4:] = -1
    problem.graph["user"].teacher_items[3] = -1
    problem.graph["user"].teacher_scores = torch.randn(25, 30)
    problem.graph.teacher_inner_product = False
    problem = problem if sure else unsure(problem)
    method = RejuvenatedCrossEntropy(variant=variant, temperature=0.5, **SMALL)
    method.bind(problem.graph, 4).on_epoch_start(0, 1, problem.x_dict)
    check(method, problem)
    assert method.needs == ("teacher_items",)


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("options", [{}, {"sampling_temperature": 0.5}, {"num_candidates": 70}])
def test_lists_of_every_user(problem, exponential_draws, variant: str, options: dict) -> None:
    options = SMALL | {"sampling_temperature": 3.0} | options
    method = RejuvenatedCrossEntropy(variant=variant, **options).bind(problem.graph, 4)
    method.on_epoch_start(0, 1, problem.x_dict)
    (noise,), student = exponential_draws, arrays(problem.x_dict)
    for user in range(25):
        ranked = ranking(problem, user, student)[: method.num_candidates]
        own, drawn = lists(method, user)
        assert own == set(ranked[:8])
        weight = log_weights(
            variant, ranked, taught(problem, user, 8), 8, method.sampling_temperature
        )
        keys = np.array(weight) - np.log(noise[user, : len(ranked)])
        assert drawn == {ranked[j] for j in np.argsort(-keys)[:6]}


def same_everywhere(num_users: int) -> tuple[HeteroData, dict[str, Tensor]]:
    """Users of one history, one teacher's list and one representation: items in their order."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, 16
    user = torch.arange(num_users).repeat_interleave(2)
    data[INTERACTS].edge_index = torch.stack([user, torch.tensor([2, 7]).repeat(num_users)])
    ranked = torch.tensor([4, 0, 11, 15, 12], dtype=torch.int32)
    data["user"].teacher_items = ranked.expand(num_users, -1)
    data["user"].teacher_x, data["item"].teacher_x = torch.ones(num_users, 1), torch.ones(16, 1)
    data.graph_fingerprint = graph_fingerprint(data)
    return data, {"user": torch.ones(num_users, 1), "item": -torch.arange(16.0).unsqueeze(1)}


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("num_sampled", [1, 3])
def test_law_of_the_draws(variant: str, num_sampled: int) -> None:
    num_users, tau = 20_000, 1.5
    graph, x_dict = same_everywhere(num_users)
    method = RejuvenatedCrossEntropy(
        num_listed=5, num_sampled=num_sampled, num_candidates=11, sampling_temperature=tau,
        variant=variant,
    ).bind(graph, 1)  # fmt: skip
    method.on_epoch_start(0, 1, x_dict)
    ranked = [i for i in range(16) if i not in (2, 7)][:11]
    found = np.bincount(method.lists[:, 5:].flatten(), minlength=16)[ranked] / num_users
    assert found.sum() == pytest.approx(num_sampled)
    weight = np.exp(log_weights(variant, ranked, [4, 0, 11, 15, 12], 5, tau))
    # One after another, each time among those that are left.
    rng, tries, expected = np.random.default_rng(0), 20_000, np.zeros(11)
    for _ in range(tries):
        expected[rng.choice(11, num_sampled, replace=False, p=weight / weight.sum())] += 1 / tries
    sigma = np.sqrt(expected * (1 - expected) * (1 / tries + 1 / num_users))
    assert (np.abs(found - expected) < 5 * sigma + 1e-4).all()
    assert expected.max() > 2 * expected.min()


def test_lists_follow_the_student(problem) -> None:
    method = RejuvenatedCrossEntropy(**SMALL).bind(problem.graph, 4)
    assert method.lists is None
    with pytest.raises(TypeError, match="RejuvenatedCrossEntropy follows the student"):
        method.on_epoch_start(0, 2)
    assert method.lists is None
    method(problem.x_dict, problem.graph, problem.batch)
    first = method.lists.clone()
    method(problem.x_dict, problem.graph, problem.batch)
    assert torch.equal(method.lists, first)
    opposite = {"user": -problem.x_dict["user"], "item": problem.x_dict["item"]}
    method.on_epoch_start(1, 2, opposite)
    assert not torch.equal(method.lists[:, :8], first[:, :8])
    method.bind(problem.graph, 3)
    assert method.lists is None


def test_a_student_like_the_teacher_is_refined_by_its_own_list(problem) -> None:
    graph = problem.graph
    x_dict = {t: graph[t].teacher_x.clone().requires_grad_() for t in ("user", "item")}
    for user in range(25):
        ranked = ranking(problem, user, arrays(x_dict))[:30]
        graph["user"].teacher_items[user] = torch.tensor(ranked, dtype=torch.int32)
    method = RejuvenatedCrossEntropy(**SMALL, beta=100.0).bind(graph, 10)
    method.on_epoch_start(0, 1, x_dict)
    loss = method(x_dict, graph, problem.batch)
    loss.backward()
    # All weight is on the first term, whose softmax is the target: what remains is its entropy.
    expected = 0.0
    for u in problem.batch.unique_users.tolist():
        scores = graph["item"].teacher_x[sorted(lists(method, u)[0])] @ graph["user"].teacher_x[u]
        expected += torch.distributions.Categorical(logits=scores).entropy().item()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert x_dict["user"].grad.abs().max() < 1e-4


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_short_lists_and_few_unseen_items(problem, variant: str) -> None:
    short, unlisted, full = problem.batch.unique_users[:3].tolist()
    graph = problem.graph
    # The last of the three has seen all items but three.
    extra = [i for i in range(60) if i not in problem.seen[full] and i not in (5, 17, 40)]
    more = torch.tensor([[full] * len(extra), extra])
    graph[INTERACTS].edge_index = torch.cat([graph[INTERACTS].edge_index, more], 1)
    problem.seen[full] |= set(extra)
    left = [i for i in (5, 17, 40) if i not in problem.seen[full]]
    graph["user"].teacher_items[full] = -1
    graph["user"].teacher_items[full, : len(left)] = torch.tensor(left, dtype=torch.int32)
    graph["user"].teacher_items[short, 3:] = -1
    graph["user"].teacher_items[unlisted] = -1
    graph.graph_fingerprint = graph_fingerprint(graph)
    method = RejuvenatedCrossEntropy(**SMALL, variant=variant).bind(graph, 4)
    method.on_epoch_start(0, 1, problem.x_dict)
    assert lists(method, full) == (set(left), set(left))
    check(method, problem)
    assert not problem.x_dict["user"].grad[unlisted].any()
    assert all(bool(x.grad.isfinite().all()) for x in problem.x_dict.values())
    alone = Batch(*(torch.tensor([v]) for v in (unlisted, 0, 1)))
    assert method(problem.x_dict, graph, alone).item() == 0


def test_large_scores_stay_finite(problem) -> None:
    method = RejuvenatedCrossEntropy(**SMALL, scale=1e3).bind(problem.graph, 4)
    x_dict = {k: (3 * x.detach()).requires_grad_() for k, x in problem.x_dict.items()}
    loss = method(x_dict, problem.graph, problem.batch)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(x.grad.isfinite().all()) for x in x_dict.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "code"}, r"'variant' must be one of \('paper', 'reference'\).*'code'"),
        ({"num_listed": 0}, r"'num_listed' must be a positive integer \(got 0\)"),
        ({"num_sampled": -1}, "'num_sampled'.*-1"),
        ({"sampling_temperature": 0.0}, "'sampling_temperature'.*0.0"),
        ({"temperature": 0.0}, "'temperature'.*0.0"),
        ({"scale": -2.0}, "'scale'.*-2.0"),
        ({"beta": -0.1}, r"'beta' must be 0 or more \(got -0.1\)"),
        ({"num_candidates": 49}, r"'num_candidates' must be an integer of 50 or more \(got 49\)"),
        ({"num_sampled": 300}, r"'num_candidates' must be an integer of 300 or more \(got 200\)"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RejuvenatedCrossEntropy(**options)


def test_lists_shorter_than_asked_for(problem) -> None:
    with pytest.raises(ValueError, match=r"'num_listed' is 50.*30 items.*num_items >= 50"):
        RejuvenatedCrossEntropy().bind(problem.graph, 4)
