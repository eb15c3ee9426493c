from __future__ import annotations

from math import exp, log, log2
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_kd import HetComp
from pyg_kd.knowledge import TrajectoryRecorder, attach_trajectories
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.typing import Batch

TEACHERS, STATES, LISTED = 3, 4, 20


def shortened(rng, ranking: list[int], length: int) -> np.ndarray:
    """The head of a ranking, now and then cut off, padded."""
    n = length if rng.random() < 0.8 else rng.integers(length + 1)
    return np.array((ranking[:n] + [-1] * length)[:length])


@pytest.fixture
def setting(problem) -> SimpleNamespace:
    """The problem with three teachers over four states, and a user that none of them ranks."""
    rng = np.random.default_rng(1)
    items = np.full((25, TEACHERS, STATES, LISTED), -1)
    most = max(map(len, problem.seen.values()))
    observed = np.full((25, TEACHERS, STATES, most), -1)
    for u in range(24):
        unseen = [i for i in range(60) if i not in problem.seen[u]]
        for x in range(TEACHERS):
            for v in range(STATES):
                items[u, x, v] = shortened(rng, rng.permutation(unseen).tolist(), LISTED)
                own = rng.permutation(sorted(problem.seen[u])).tolist()
                observed[u, x, v] = shortened(rng, own, most)
    store = problem.graph["user"]
    store.teacher_trajectory = torch.from_numpy(items).to(torch.int32)
    store.teacher_observed = torch.from_numpy(observed).to(torch.int32)
    problem.items, problem.observed = items, observed
    problem.batch.user[0] = 24
    return problem


# The method user by user, in plain Python and float64.


def ensemble(states: np.ndarray, pointer: np.ndarray, consistency: bool, k: int) -> list[int]:
    """Of one user: lists of every teacher and state, ``[X, V, K]``, and a state of each."""
    importance: dict[int, float] = {}
    first: dict[int, tuple[int, int]] = {}
    length = states.shape[2]
    for x, v in enumerate(pointer):
        for rank, item in enumerate(states[x, v].tolist()):
            if item < 0:
                continue
            value = exp(-rank / 10)
            if consistency:
                past = [states[x, w].tolist() for w in range(v + 1)]
                ranks = [row.index(item) if item in row else length for row in past]
                value += exp(-np.std(ranks) / 100)
            importance[item] = importance.get(item, 0.0) + value
            first[item] = min(first.get(item, (rank, x)), (rank, x))
    ranked = sorted(importance, key=lambda i: (-round(importance[i], 9), first[i]))
    return (ranked + [-1] * k)[:k]


def discrepancy(student: list[int], teacher: list[int], gain: str) -> float:
    ideal = sum((2 ** exp(-r / 10) - 1) / log2(r + 2) for r, i in enumerate(teacher) if i >= 0)
    if ideal == 0:
        return 0.0
    dcg = 0.0
    for t, item in enumerate(student):
        if item in teacher:
            place = teacher.index(item) if gain == "teacher" else t
            dcg += (2 ** exp(-place / 10) - 1) / log2(t + 2)
    return 1 - dcg / ideal


def top_unseen(x_dict: dict[str, Tensor], seen: dict[int, set[int]], k: int) -> list[list[int]]:
    scores = (x_dict["user"].detach() @ x_dict["item"].detach().t()).numpy()
    out = []
    for u, row in enumerate(scores):
        unseen = [i for i in range(len(row)) if i not in seen[u]]
        out.append(sorted(unseen, key=lambda i, row=row: (-row[i], i))[:k])
    return out


class Pointers:
    """All pointers, and the discrepancies to the next states."""

    def __init__(self, items: np.ndarray, gain: str, compared: int) -> None:
        self.items, self.gain, self.compared = items, gain, compared
        self.at = np.zeros(items.shape[:2], dtype=int)
        self.then: dict[tuple[int, int], float] = {}

    def move(self, x_dict, seen, threshold: float) -> None:
        students = top_unseen(x_dict, seen, self.compared)

        def now(u: int, x: int) -> float:
            following = min(self.at[u, x] + 1, STATES - 1)
            teacher = self.items[u, x, following, : self.compared].tolist()
            return discrepancy(students[u], teacher, self.gain)

        for u, x in np.ndindex(*self.at.shape):
            if self.at[u, x] == STATES - 1:
                continue
            if (u, x) not in self.then:
                self.then[u, x] = now(u, x)
                continue
            found = now(u, x)
            ratio = self.then[u, x] / found if found > 0 else np.inf
            if ratio > threshold or ratio < 1:
                self.at[u, x] += 1
                self.then[u, x] = now(u, x)


def log_sum(terms: list[float]) -> float:
    top = max(terms, default=-np.inf)
    return top if top == -np.inf else top + log(sum(exp(t - top) for t in terms))


def likelihood(scores: list[float], tail: float) -> float:
    return sum(log_sum([*scores[k:], tail]) - s for k, s in enumerate(scores))


def loss(setting, x_dict, lists: list[tuple[list[int], list[int]]], fine: bool, scale=1.0) -> float:
    """Of the batch, with observed and unobserved items listed for every user."""
    x_user, x_item = (x_dict[t].detach().double().numpy() for t in ("user", "item"))
    total = 0.0
    for u in sorted(set(setting.batch.user.tolist())):
        s = scale * (x_item @ x_user[u])
        observed, listed = lists[u]
        unobserved, k = [i for i in range(len(s)) if i not in setting.seen[u]], len(listed)

        def but(items, s=s, unobserved=unobserved) -> float:
            return log_sum([s[i] for i in unobserved if i not in items])

        def of(items, s=s) -> list[float]:
            return [s[i] for i in items if i >= 0]

        if fine:
            half, tenth = listed[: k // 2], listed[: k // 10]
            total += likelihood(of(observed), but(half))
            total += 0.5 * (likelihood(of(half), but(half)) + likelihood(of(tenth), but(tenth)))
        else:
            total += sum(log_sum([x, but(listed)]) - x for x in of(observed) + of(listed))
    return total


def expected_lists(setting, at: np.ndarray, consistency: bool = False, num: int = LISTED):
    sizes = max(num // 10, 1), num
    return [
        tuple(
            ensemble(s[u], at[u], consistency, k)
            for s, k in zip((setting.observed, setting.items), sizes, strict=True)
        )
        for u in range(25)
    ]


def lists_of(method: HetComp) -> list[tuple[list[int], list[int]]]:
    num = method.sizes[1]
    return [(row[:num], row[num:]) for row in method.lists.tolist()]


def student(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        t: torch.randn(n, 4, generator=generator).requires_grad_()
        for t, n in (("user", 25), ("item", 60))
    }


def bound(setting, **options) -> HetComp:
    return HetComp(**options).bind(setting.graph, setting.dim)


def all_at(method: HetComp, state: int) -> HetComp:
    method.states.pointer.fill_(state)
    method.relist()
    return method


@pytest.mark.parametrize("gain", ["teacher", "student"])
@pytest.mark.parametrize("consistency", [False, True])
@pytest.mark.parametrize("num_compared", [50, 7])
def test_pointers_and_lists_over_the_epochs(setting, gain, consistency, num_compared):
    options = {"gain": gain, "consistency": consistency, "num_compared": num_compared}
    method = bound(setting, interval=5, **options)
    oracle = Pointers(setting.items, gain, min(num_compared, LISTED))
    seen, counts = setting.seen, []
    start, direction = student(0), student(1)
    for epoch in range(80):
        x_dict = {k: (start[k] + 0.02 * epoch * direction[k]).detach() for k in start}
        method.on_epoch_start(epoch, 80, x_dict)
        if epoch and epoch % 5 == 0:
            oracle.move(x_dict, seen, 1.05 * 0.995 ** (epoch // 5))
        np.testing.assert_array_equal(method.states.pointer, oracle.at, err_msg=str(epoch))
        if epoch % 20 == 15:
            assert lists_of(method) == expected_lists(setting, oracle.at, consistency)
        assert bool(method.fine) == bool((oracle.at == STATES - 1).all())
        counts.append(oracle.at.sum())
    # Nothing moves at the first measurement, not all move later, and all arrive.
    assert counts[9] == 0 < counts[10] < 60 and bool(method.fine)


def test_first_and_final_states(setting):
    first, last = np.zeros((25, TEACHERS), int), np.full((25, TEACHERS), STATES - 1)
    assert lists_of(bound(setting)) == expected_lists(setting, first)
    static = bound(setting, dynamic=False)
    assert lists_of(static) == expected_lists(setting, last)
    # Its pointers say when the order counts.
    assert not static.fine and all_at(static, 3).fine
    assert lists_of(static) == expected_lists(setting, last)


def test_pointers_of_the_ablations_move_all_the_same(setting):
    methods = [bound(setting, interval=1, dynamic=d, adaptive=a) for d in (0, 1) for a in (0, 1)]
    for epoch in range(1, 6):
        x_dict = {k: v.detach() for k, v in student(epoch).items()}
        for method in methods:
            method.on_epoch_start(epoch, 6, x_dict)
    pointers = [method.states.pointer for method in methods]
    assert all(torch.equal(p, pointers[0]) for p in pointers) and bool(pointers[0].any())
    assert [bool(m.fine) for m in methods] == [True, False, True, False]


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_loss(setting, fine, scale):
    method = bound(setting, adaptive=not fine, scale=scale, fine_weight=0.25)
    value = method(setting.x_dict, setting.graph, setting.batch)
    expected = loss(setting, setting.x_dict, lists_of(method), fine, scale)
    assert value.item() == pytest.approx(expected * (0.25 if fine else 1), rel=1e-9)


def test_the_order_counts_once_all_pointers_have_arrived(setting):
    method = all_at(bound(setting), STATES - 1)
    assert method.fine
    value = method(setting.x_dict, setting.graph, setting.batch)
    expected = loss(setting, setting.x_dict, lists_of(method), True)
    assert value.item() == pytest.approx(0.5 * expected, rel=1e-9)
    method.states.pointer[7, 1] = STATES - 2  # of a user that need not be in the batch
    method.relist()
    value = method(setting.x_dict, setting.graph, setting.batch)
    expected = loss(setting, setting.x_dict, lists_of(method), False)
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("num_listed", [20, 7])
def test_shorter_lists(setting, fine, num_listed):
    method = bound(setting, adaptive=not fine, num_listed=num_listed)
    # Only what comes out of the ensemble is shorter, not what goes in, nor what is compared.
    first = np.zeros((25, TEACHERS), int)
    assert lists_of(method) == expected_lists(setting, first, num=num_listed)
    assert method.states.num_compared == LISTED
    value = method(setting.x_dict, setting.graph, setting.batch)
    expected = dense_loss(setting, setting.x_dict, method, fine)
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)


def dense_loss(setting, x_dict, method: HetComp, fine: bool) -> Tensor:
    """The same in float64 with all scores of a user at once, for gradients."""
    total = torch.zeros((), dtype=torch.double)
    for u in setting.batch.user.unique().tolist():
        s = x_dict["item"].double() @ x_dict["user"][u].double()
        observed, listed = lists_of(method)[u]
        k, terms = len(listed), []
        half, tenth = listed[: max(k // 2, 1)], listed[: max(k // 10, 1)]
        # A list, what is not in its tail, and its weight.
        heads = [(observed, half, 1.0), (half, half, 0.5), (tenth, tenth, 0.5)]
        for items, besides, weight in heads if fine else [(observed + listed, listed, 1.0)]:
            hidden = torch.tensor(sorted(setting.seen[u] | {i for i in besides if i >= 0}))
            rest = s.index_fill(0, hidden, -torch.inf) if len(hidden) else s
            tail = rest.logsumexp(0)
            items = [i for i in items if i >= 0]
            for place, item in enumerate(items):
                below = s[torch.tensor(items[place:])] if fine else s[item : item + 1]
                terms.append(weight * (torch.cat([below, tail.view(1)]).logsumexp(0) - s[item]))
        total = total + sum(terms)
    return total * (0.5 if fine else 1.0)


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("size", [0.3, 1.0, 7.0])
def test_gradients_and_large_scores(setting, fine, size):
    # At 7 the scores exceed +-50, and what is excluded holds nearly all of some users' mass.
    method = bound(setting, adaptive=not fine)
    x_dict = {k: (size * v).detach() for k, v in setting.x_dict.items()}
    for u in range(0, 24, 2):
        best = torch.tensor([*setting.seen[u], *lists_of(method)[u][1]])
        x_dict["item"][best[best >= 0]] += 0.05 * x_dict["user"][u]
    x_dict = {k: v.requires_grad_() for k, v in x_dict.items()}
    found = method(x_dict, setting.graph, setting.batch)
    expected = dense_loss(setting, x_dict, method, fine)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    grads, expected = (torch.autograd.grad(v, [*x_dict.values()]) for v in (found, expected))
    for a, b in zip(grads, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
    if size == 7.0:
        assert (x_dict["user"] @ x_dict["item"].t()).abs().max() > 50


@pytest.mark.parametrize("fine", [False, True])
def test_gradcheck(setting, fine):
    method = bound(setting, adaptive=not fine)
    x = [setting.x_dict[t].detach().double().requires_grad_() for t in ("user", "item")]
    batch = Batch(*(v[:3] for v in (setting.batch.user, setting.batch.positive)), torch.zeros(3))
    assert torch.autograd.gradcheck(
        lambda user, item: method({"user": user, "item": item}, setting.graph, batch),
        x,
        fast_mode=True,
    )


@pytest.mark.parametrize("fine", [False, True])
def test_users_without_rankings_and_users_with_nothing_left(setting, fine):
    left = torch.tensor([i for i in range(60) if i not in setting.seen[3]], dtype=torch.int32)
    wide = torch.full((25, 1, 1, 60), -1, dtype=torch.int32)
    wide[3, 0, 0, : len(left)] = left[torch.randperm(len(left))]
    store = setting.graph["user"]
    store.teacher_trajectory = wide
    store.teacher_observed = torch.full((25, 1, 1, 6), -1, dtype=torch.int32)
    method = bound(setting, adaptive=True)
    assert method.fine  # the only state is the last
    if not fine:
        method.fine = False
    batch = Batch(torch.tensor([3, 24]), torch.zeros(2), torch.zeros(2))
    value = method(setting.x_dict, setting.graph, batch)
    value.backward()
    grad = setting.x_dict["user"].grad
    assert bool(value.isfinite()) and bool(grad.isfinite().all())
    assert not grad[24].any()
    # Against an empty tail, what does not have an order has nothing to learn.
    assert bool(grad[3].any()) == fine and (value.item() == 0) != fine


def test_one_teacher_lists_what_it_ranks(setting):
    store = setting.graph["user"]
    store.teacher_trajectory = store.teacher_trajectory[:, :1]
    store.teacher_observed = store.teacher_observed[:, :1]
    method = all_at(bound(setting), 2)
    assert torch.equal(method.lists[:, 2:], store.teacher_trajectory[:, 0, 2])
    assert torch.equal(method.lists[:, :2], store.teacher_observed[:, 0, 2, :2])


def test_a_teacher_in_closed_form_starts_at_its_only_state(setting):
    store = setting.graph["user"]
    for rankings in (store.teacher_trajectory, store.teacher_observed):
        rankings[:, 1] = rankings[:, 1, -1:]
    method = bound(setting)
    assert method.states.pointer.tolist() == [[0, STATES - 1, 0]] * 25
    at = np.tile([0, STATES - 1, 0], (25, 1))
    assert lists_of(method) == expected_lists(setting, at)


def test_discrepancy_to_the_final_states(setting):
    method = bound(setting)
    found = method.states.discrepancy(setting.x_dict)
    students = top_unseen(setting.x_dict, setting.seen, LISTED)
    expected = [
        [discrepancy(students[u], setting.items[u, x, -1].tolist(), "teacher") for x in range(3)]
        for u in range(25)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pointers_move_by_the_student_alone(setting):
    method = bound(setting, interval=3)
    for epoch in (0, 1, 2, 4, 5):
        method.on_epoch_start(epoch, 6)
    with pytest.raises(TypeError, match="HetComp follows the student"):
        method.on_epoch_start(3, 6)
    assert not method.states.pointer.any() and bool(method.states.target.isnan().all())


def test_pointers_are_what_is_saved(setting):
    method, other = bound(setting, interval=1), bound(setting, interval=1)
    for epoch in range(4):
        method.on_epoch_start(epoch, 9, student(epoch))
    other.load_state_dict(method.state_dict())
    assert bool(method.states.pointer.any()) and torch.equal(other.lists, method.lists)
    for epoch in range(4, 7):
        for m in (method, other):
            m.on_epoch_start(epoch, 9, student(epoch))
        assert torch.equal(other.lists, method.lists) and other.fine == method.fine
    HetComp().load_state_dict({})  # before it is bound there is nothing


@pytest.fixture
def graph(problem):
    """A graph with two teachers that learnt for some epochs."""
    data, trajectories = problem.graph, []
    users = data["user"].num_nodes
    own = torch.stack([torch.arange(users), torch.arange(users)])
    edges = torch.cat([data["user", "item"].edge_index, own], 1).unique(dim=1)
    data["user", "item"].edge_index = edges
    for dim in (12, 16):
        teacher, recorder = MF(data, dim), TrajectoryRecorder([0, 3, 9], num_items=20)
        fit(teacher, data, callbacks=[recorder], max_epochs=30)
        trajectories.append(recorder.finish(teacher, data))
    return attach_trajectories(data, trajectories)


def fit(model, data, *, callbacks=(), methods=(), folder=None, **options):
    defaults = {"max_epochs": 12, "batch_size": 32, "lr": 0.05, "accelerator": "cpu"}
    trainer = Trainer(**defaults | {"progress": False, "checkpoint_dir": folder} | options)
    resume = folder is not None
    return trainer.fit(model, data, distillations=methods, callbacks=callbacks, resume=resume)


def test_a_student_comes_nearer_and_its_pointers_arrive(graph):
    method, student = HetComp(interval=3), MF(graph, 6)
    method.bind(graph, 6)
    before = method.states.discrepancy(student(graph)).mean()
    fit(student, graph, methods=[(method, 1.0)], max_epochs=60, base_weight=0.0, batch_by="user")
    assert method.states.discrepancy(student(graph)).mean() < 0.7 * before
    assert method.fine


def test_a_run_continues_to_the_same_bits(graph, tmp_path):
    def interrupt(epoch, model, data):
        if epoch == 7:
            raise KeyboardInterrupt

    results = []
    for folder, interruption in (("whole", None), ("part", interrupt), ("part", None)):
        torch.manual_seed(0)
        model, method = MF(graph, 6), HetComp(interval=2)
        options = {"methods": [(method, 0.1)], "folder": tmp_path / folder}
        if interruption is not None:
            with pytest.raises(KeyboardInterrupt):
                fit(model, graph, callbacks=[interruption], **options)
            assert bool(method.states.pointer.any())
        else:
            history = fit(model, graph, **options)
            results.append((model, method, history["HetComp"]))
    (model, method, losses), (again, other, continued) = results
    assert torch.equal(model.item_embedding, again.item_embedding) and losses == continued
    assert torch.equal(method.states.pointer, other.states.pointer)
    assert torch.equal(method.lists, other.lists)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gain": "both"}, r"'gain' must be one of \('teacher', 'student'\) \(got 'both'\)"),
        ({"num_listed": 0}, r"'num_listed' must be a positive integer \(got 0\)"),
        ({"interval": 0}, r"'interval' must be a positive integer \(got 0\)"),
        ({"alpha": -1.0}, r"'alpha' must be positive \(got -1.0\)"),
        ({"alpha_decay": 1.1}, r"'alpha_decay' must lie in \(0, 1\] \(got 1.1\)"),
        ({"num_compared": 0}, r"'num_compared' must be a positive integer \(got 0\)"),
        ({"fine_weight": 0.0}, r"'fine_weight' must be positive \(got 0.0\)"),
        ({"scale": 0.0}, r"'scale' must be positive \(got 0.0\)"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        HetComp(**options)


def test_missing_trajectories(problem):
    with pytest.raises(ValueError, match=r"teacher_trajectory.*attach_trajectories\(data"):
        HetComp().bind(problem.graph, 4)
