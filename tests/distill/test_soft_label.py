from __future__ import annotations

from functools import partial
from math import exp, log

import pytest
import torch

from pyg_kd import SoftLabel
from pyg_kd.functional import losses
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.typing import INTERACTS, Batch
from tests.distill.slopes import arrays, slopes
from tests.distill.sure import sure_items, unsure

TAILS = [("catalogue", 0.0), ("catalogue", 0.7), ("list", 0)]


def softmax(logits: list[float]) -> list[float]:
    total = sum(exp(v - max(logits)) for v in logits)
    return [exp(v - max(logits)) / total for v in logits]


def oracle(
    method: SoftLabel, problem, users: list[int], x_dict: dict, part: set[int] | None = None
) -> float:
    """The formula, user by user and item by item, in float64; ``part`` is the drawn catalogue."""
    user, item = x_dict["user"], x_dict["item"]
    total = 0.0
    for u in users:
        sure = sure_items(problem, u, method.num_listed)
        ranked = [*sure]
        if method.target == "rank":
            several = isinstance(method.temperature, tuple)
            temperatures = method.temperature if several else (method.temperature,)
            weights = method.mixture or [1.0] * len(temperatures)
            q = [0.0] * len(ranked)
            for temperature, weight in zip(temperatures, weights, strict=True):
                decay = [exp(-r / temperature) for r in range(len(ranked))]
                for r, v in enumerate(decay):
                    q[r] += weight / sum(weights) * v / sum(decay)
        elif ranked:
            scores = [teacher_score(problem, u, i) for i in ranked]
            q = softmax([s / method.temperature_score for s in scores])
        pool = range(len(item)) if method.tail == "catalogue" else ranked
        score = {i: method.scale * float(user[u] @ item[i]) for i in pool}
        summed = [
            exp(score[i])
            for i in score
            if (part is None or i in part) and not (method.own == "mask" and i in problem.seen[u])
        ]
        lse = log(sum(summed)) if summed else 0.0
        if part is not None and summed:
            lse += log(len(item) / len(part))
        for share, i in zip(q if ranked else [], ranked, strict=True):
            total -= sure[i] * share * (score[i] - lse)
        own = problem.seen[u] if method.own_weight else ()
        for i in own:
            total -= method.own_weight / len(own) * (score[i] - lse)
    return total


def teacher_score(problem, user: int, item: int) -> float:
    """The score that the graph carries, or the teacher's inner product."""
    store = problem.graph["user"]
    if "teacher_x" not in store:
        return float(store.teacher_scores[user, store.teacher_items[user].tolist().index(item)])
    return float(store.teacher_x[user].double() @ problem.graph["item"].teacher_x[item].double())


def check(
    method: SoftLabel, problem, batch: Batch | None = None, part: set[int] | None = None
) -> None:
    """Value and gradient, along a random direction, against the oracle."""
    batch = problem.batch if batch is None else batch
    for x in problem.x_dict.values():
        x.grad = None
    loss = method(problem.x_dict, problem.graph, batch)
    loss.backward()
    users, student = sorted(set(batch.user.tolist())), arrays(problem.x_dict)
    expected = oracle(method, problem, users, student, part)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-5)
    found, expected = slopes(lambda at: oracle(method, problem, users, at, part), problem.x_dict)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("target", ["rank", "score"])
@pytest.mark.parametrize(
    ("tail", "own_weight"), [("catalogue", 0.0), ("catalogue", 0.7), ("list", 0)]
)
@pytest.mark.parametrize(
    ("num_listed", "scale", "sharpness"),
    [(100, 1.0, 1.0), (30, 3.0, 0.2), (7, 1.0, 4.0), (1, 2.0, 1.0)],
)
def test_value_and_gradient(
    problem, target, tail, own_weight, num_listed, scale, sharpness
) -> None:
    method = SoftLabel(
        num_listed=num_listed,
        target=target,
        temperature=5.0 * sharpness,
        temperature_score=2.0 * sharpness,
        tail=tail,
        own_weight=own_weight,
        scale=scale,
    ).bind(problem.graph, 4)
    if (tail, num_listed) == ("list", 1):  # a list of one item is always right
        assert method(problem.x_dict, problem.graph, problem.batch).item() == 0
        return
    check(method, problem)


@pytest.mark.parametrize("target", ["rank", "score"])
@pytest.mark.parametrize(
    "options", [{"own_weight": 0.7}, {"tail": "list"}, {"own": "mask"}, {"temperature": (2.0, 9.0)}]
)
@pytest.mark.parametrize("num_listed", [7, 30])
def test_confidence_weighs_places(problem, target, options, num_listed) -> None:
    method = SoftLabel(target=target, num_listed=num_listed, **options)
    check(method.bind(unsure(problem).graph, 4), problem)


def test_the_catalogue_in_several_tiles(problem, monkeypatch) -> None:
    lse = losses.catalogue_logsumexp
    monkeypatch.setattr(losses, "catalogue_logsumexp", lambda u, i, **o: lse(u, i, tile=13, **o))
    check(SoftLabel(own_weight=0.5).bind(problem.graph, 4), problem)
    check(SoftLabel(own="mask").bind(problem.graph, 4), problem)


@pytest.mark.parametrize("num_listed", [30, 7])
@pytest.mark.parametrize(
    ("temperature", "mixture"), [(5.0, None), ((2.0, 9.0), None), ([2.0, 9.0, 4.0], [0.3, 0.7, 0])]
)
def test_own_items_are_left_out_of_the_denominator(
    problem, num_listed, temperature, mixture
) -> None:
    method = SoftLabel(
        own="mask", num_listed=num_listed, temperature=temperature, mixture=mixture, scale=1.5
    ).bind(problem.graph, 4)
    check(method, problem)
    # A batch of one user: its own items have no part in the loss, any other item has.
    user = int(problem.batch.user[0])
    check(method, problem, Batch(*(torch.tensor([v]) for v in (user, 0, 1))))
    own = sorted(problem.seen[user])
    gradient = problem.x_dict["item"].grad
    assert own and not gradient[own].any() and int(gradient.any(1).sum()) == 60 - len(own)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What is drawn uniformly, in order."""
    drawn, original = [], torch.rand_like

    def recorded(x: torch.Tensor) -> torch.Tensor:
        drawn.append(original(x))
        return drawn[-1]

    monkeypatch.setattr(torch, "rand_like", recorded)
    return drawn


@pytest.mark.parametrize(("options", "share"), [({}, 0.5), ({"own": "mask"}, 0.3)])
def test_a_drawn_part_of_the_catalogue(problem, draws, options, share) -> None:
    method = SoftLabel(share=share, own_weight=0.0, **options).bind(problem.graph, 4)
    for _ in range(2):
        for x in problem.x_dict.values():
            x.grad = None
        loss = method(problem.x_dict, problem.graph, problem.batch)
        loss.backward()
        part = set(draws[-1].argsort(descending=True)[: round(share * 60)].tolist())
        users = sorted(set(problem.batch.user.tolist()))
        expected = oracle(method, problem, users, arrays(problem.x_dict), part)
        assert loss.item() == pytest.approx(expected, rel=1e-9)
        measured = partial(oracle, method, problem, users, part=part)
        found, slope = slopes(measured, problem.x_dict)
        assert found == pytest.approx(slope, rel=1e-6, abs=1e-4)
    assert not torch.equal(*draws)


def test_the_drawn_sum_is_that_of_the_catalogue_on_average(problem) -> None:
    one = Batch(*(torch.tensor([v]) for v in (3, 0, 1)))
    whole, part = (SoftLabel(share=v).bind(problem.graph, 4) for v in (1.0, 0.5))
    x_dict = {key: 0.5 * x.detach() for key, x in problem.x_dict.items()}
    # exp(loss) is the sum over the catalogue, up to a factor that both have in common.
    exact = float(whole(x_dict, problem.graph, one))
    drawn = torch.stack([(part(x_dict, problem.graph, one) - exact).exp() for _ in range(2000)])
    assert abs(float(drawn.mean()) - 1) < 4 * float(drawn.std()) / 2000**0.5
    assert drawn.std() > 0.01


def test_a_part_that_holds_own_items_alone_has_no_denominator(problem, monkeypatch) -> None:
    method = SoftLabel(share=0.02, own="mask").bind(problem.graph, 4)
    user = int(problem.batch.user[0])
    key = torch.zeros(60)
    key[min(problem.seen[user])] = 1
    monkeypatch.setattr(torch, "rand_like", lambda x: key)
    one = Batch(*(torch.tensor([v]) for v in (user, 0, 1)))
    check(method, problem, one, {min(problem.seen[user])})
    assert all(bool(x.grad.isfinite().all()) for x in problem.x_dict.values())


def test_targets_are_distributions(problem) -> None:
    problem.graph["user"].teacher_items[3, 4:] = -1
    for target in ("rank", "score"):
        method = SoftLabel(target=target, num_listed=12).bind(problem.graph, 4)
        for user, degree in enumerate(method.targets.ptr.diff().tolist()):
            first = int(method.targets.ptr[user])
            assert method.targets.col[first : first + degree].tolist() == [
                i for i in problem.graph["user"].teacher_items[user, :12].tolist() if i >= 0
            ]
            share = method.targets.value[first : first + degree]
            assert share.sum().item() == pytest.approx(1, abs=1e-6)
            if target == "rank":
                ratio = (share[1:] / share[:-1]).double()
                torch.testing.assert_close(ratio, ratio.new_full(ratio.shape, exp(-1 / 20)))


def padded(problem) -> tuple[int, int, int]:
    """Users of the batch with a short list, with none, and with neither list nor history."""
    short, unlisted, blank = problem.batch.unique_users[:3].tolist()
    problem.graph["user"].teacher_items[short, 3:] = -1
    problem.graph["user"].teacher_items[[unlisted, blank]] = -1
    edges = problem.graph[INTERACTS].edge_index
    problem.graph[INTERACTS].edge_index = edges[:, edges[0] != blank]
    problem.seen[blank] = set()
    problem.graph.graph_fingerprint = graph_fingerprint(problem.graph)
    return short, unlisted, blank


@pytest.mark.parametrize("target", ["rank", "score"])
@pytest.mark.parametrize(
    ("tail", "own_weight"), [("catalogue", 0.0), ("catalogue", 0.7), ("list", 0)]
)
def test_short_lists_and_users_without_one(problem, target, tail, own_weight) -> None:
    _, unlisted, blank = padded(problem)
    method = SoftLabel(target=target, tail=tail, own_weight=own_weight).bind(problem.graph, 4)
    check(method, problem)
    gradient = problem.x_dict["user"].grad
    assert bool(gradient.isfinite().all()) and not gradient[blank].any()
    assert bool(gradient[unlisted].any()) == (own_weight > 0)
    alone = Batch(*(torch.tensor([v]) for v in (blank, 0, 1)))
    assert method(problem.x_dict, problem.graph, alone).item() == 0


def test_repeated_interactions_count_once(problem) -> None:
    before = SoftLabel(own_weight=1.0).bind(problem.graph, 4)
    expected = before(problem.x_dict, problem.graph, problem.batch)
    edges = problem.graph[INTERACTS].edge_index
    problem.graph[INTERACTS].edge_index = torch.cat([edges, edges[:, :9]], 1)
    method = SoftLabel(own_weight=1.0).bind(problem.graph, 4)
    assert torch.equal(method(problem.x_dict, problem.graph, problem.batch), expected)


def test_all_users_at_once_learn_their_targets(problem) -> None:
    # The minimum of a cross-entropy is where the softmax is the target: its entropy remains.
    method = SoftLabel(own_weight=0.5, num_listed=20).bind(problem.graph, 60)
    everyone = Batch(*(torch.arange(25) for _ in range(3)))
    target = torch.zeros(25, 60)
    owner = torch.repeat_interleave(method.targets.ptr.diff())
    target.index_put_((owner, method.targets.col.long()), method.targets.value, accumulate=True)
    x_dict = {
        "user": (target / 1.5).clamp(min=1e-12).log().requires_grad_(),
        "item": torch.eye(60, requires_grad=True),
    }
    loss = method(x_dict, problem.graph, everyone)
    p = (target / 1.5).clamp(min=1e-12)
    assert loss.item() == pytest.approx(-(target * p.log()).sum().item(), rel=1e-9)
    loss.backward()
    assert x_dict["user"].grad.abs().max() < 1e-5


@pytest.mark.parametrize("tail", ["catalogue", "list"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(problem, tail, dtype) -> None:
    method = SoftLabel(tail=tail).bind(problem.graph, 4)
    x_dict = {k: x.detach().to(dtype).requires_grad_() for k, x in problem.x_dict.items()}
    loss = method(x_dict, problem.graph, problem.batch)
    loss.backward()
    users = problem.batch.unique_users.tolist()
    tolerance = 1e-6 if dtype == torch.float64 else 3e-2
    expected = oracle(method, problem, users, arrays(x_dict))
    assert loss.item() == pytest.approx(expected, rel=tolerance)
    assert all(x.grad.dtype == dtype and bool(x.grad.isfinite().all()) for x in x_dict.values())


@pytest.mark.parametrize("tail", ["catalogue", "list"])
def test_large_scores_stay_finite(problem, tail) -> None:
    method = SoftLabel(tail=tail, scale=1e3).bind(problem.graph, 4)
    x_dict = {k: (3 * x.detach()).requires_grad_() for k, x in problem.x_dict.items()}
    loss = method(x_dict, problem.graph, problem.batch)
    loss.backward()
    assert bool(loss.isfinite()) and loss > 1e4
    assert all(bool(x.grad.isfinite().all()) for x in x_dict.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "soft"}, r"'target' must be one of \('rank', 'score'\).*'soft'"),
        ({"tail": "batch"}, r"'tail' must be one of \('catalogue', 'list'\).*'batch'"),
        ({"num_listed": 0}, r"'num_listed' must be a positive integer \(got 0\)"),
        ({"temperature": 0.0}, "'temperature'.*0.0"),
        ({"temperature_score": -1.0}, "'temperature_score'.*-1.0"),
        ({"scale": 0.0}, "'scale'.*0.0"),
        ({"own_weight": -0.5}, r"'own_weight'.*\(got -0.5"),
        ({"own_weight": 0.5, "tail": "list"}, r"'own_weight'.*0.5 with tail='list'"),
        ({"own_weight": 0.5, "own": "mask"}, r"'own_weight'.*0.5 .*own='mask'"),
        ({"own": "push"}, r"'own' must be one of \('ignore', 'mask'\).*'push'"),
        ({"own": "mask", "tail": "list"}, r"'share' must be 1 .*own='mask'"),
        ({"share": 0.0}, "'share'.*0.0"),
        ({"share": 1.5}, r"'share' must be 1 at most.*got 1.5"),
        ({"share": 0.5, "tail": "list"}, "'share' must be 1 at most, and 1 with"),
        ({"temperature": ()}, "'temperature'.*0"),
        ({"temperature": (1.0, -2.0)}, "'temperature'.*-2.0"),
        ({"mixture": (1.0, 2.0)}, "'mixture' must have a weight for each"),
        ({"temperature": (1.0, 2.0), "mixture": (1.0,)}, "'mixture' must have a weight for each"),
        ({"temperature": (1.0, 2.0), "mixture": (0, 0)}, "'mixture' must have .* not all 0"),
        ({"temperature": (1.0, 2.0), "mixture": (1, -1)}, "'mixture' must be 0 or more"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftLabel(**options)


@pytest.mark.parametrize("tail", ["catalogue", "list"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sure", [True, False])
def test_scores_that_the_graph_carries(problem, tail, dtype, sure) -> None:
    for node_type in ("user", "item"):
        del problem.graph[node_type].teacher_x
    problem.graph["user"].teacher_items[2, 4:] = -1
    problem.graph["user"].teacher_scores = torch.randn(25, 30).to(dtype)
    problem = problem if sure else unsure(problem)
    method = SoftLabel(target="score", tail=tail, num_listed=12, temperature_score=0.3)
    # Scores of a ranker without inner products are scores all the same.
    problem.graph.teacher_inner_product = False
    check(method.bind(problem.graph, 4), problem)
    assert method.needs == ("teacher_items",) and not method.teacher_scores
    problem.graph["user"].teacher_scores[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"teacher_scores' must be finite .got nan in row 2"):
        method(problem.x_dict, problem.graph, problem.batch)


def test_inner_products_come_before_scores_of_the_graph(problem) -> None:
    problem.graph["user"].teacher_scores = torch.randn(25, 30)
    method = SoftLabel(target="score").bind(problem.graph, 4)
    check(method, problem)
    assert method.needs == ("teacher_items", "teacher_x")


def test_scores_need_the_teacher(problem) -> None:
    del problem.graph["item"].teacher_x
    SoftLabel().bind(problem.graph, 4)
    with pytest.raises(ValueError, match=r"SoftLabel.*'item'.*teacher_x.*extract_knowledge"):
        SoftLabel(target="score").bind(problem.graph, 4)


def test_own_items_are_masked_where_they_can_be() -> None:
    assert SoftLabel().own == "mask"
    for options in ({"own_weight": 0.1}, {"tail": "list"}, {"own": "ignore"}):
        assert SoftLabel(**options).own == "ignore"
