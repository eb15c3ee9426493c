from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch

from pyg_kd import ConsensusLearning
from pyg_kd.distill.consensus_learning.method import VARIANTS
from pyg_kd.functional.consensus import Head
from pyg_kd.models import MF, MultiBranch
from pyg_kd.training import Trainer
from pyg_kd.typing import Batch

#: Of representations of width 7: the first column is of no head.
HEADS = (Head("a", 1, 3), Head("b", 3, 5, "distance"), Head("c", 5, 7))
SIZES = {"user": 25, "item": 60}


def draw(width: int = 7, grad: bool = False) -> dict[str, torch.Tensor]:
    return {
        t: torch.randn(n, width, dtype=torch.double, requires_grad=grad) for t, n in SIZES.items()
    }


def score(head: Head, x: dict[str, np.ndarray], user: int, item: int, scale: float = 1.0) -> float:
    u, i = (x[t][n, head.start : head.stop] for t, n in (("user", user), ("item", item)))
    return scale * (u @ i if head.kind == "inner" else -((u - i) ** 2).sum())


def oracle_consensus(
    history: list[dict],
    seen: dict,
    user: int,
    num_listed: int,
    temperature: float,
    deviation: float,
) -> list[int]:
    """The consensus on one user's items after some rankings, from all ranks of the definition."""
    value: dict[int, float] = {}
    for head in HEADS:
        places = []
        for x in history:
            items = [i for i in range(60) if i not in seen[user]]
            ranked = sorted(items, key=lambda i: -score(head, x, user, i))
            places.append({i: min(place, num_listed) for place, i in enumerate(ranked)})
        for item, place in places[-1].items():
            if place < num_listed:
                spread = statistics.pstdev([p[item] for p in places])
                value[item] = value.get(item, 0) + math.exp(-place / temperature)
                value[item] += math.exp(-spread / deviation)
    return sorted(value, key=lambda i: (-round(value[i], 9), i))[:num_listed]


def oracle_loss(lists: dict, x: dict, users: list[int], weights: list[float], half: int) -> float:
    total = 0.0
    for weight, head in zip(weights, HEADS, strict=True):
        for user in users:
            factor = 10.0 if head.kind == "distance" else 1.0
            s = [math.exp(score(head, x, user, i, factor)) for i in lists[user]]
            for k in range(min(half, len(s))):
                total -= min(max(weight, 0.5), 2.0) * math.log(s[k] / sum(s[k:]))
    return total


def numpy_of(x: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {t: v.detach().numpy().copy() for t, v in x.items()}


@pytest.mark.parametrize(("num_listed", "deviation"), [(12, 100.0), (9, 2.0), (80, 10.0)])
def test_value_and_gradient(problem, num_listed: int, deviation: float) -> None:
    weights = torch.tensor([0.1, 1.3, 9.0])
    method = ConsensusLearning(
        heads=HEADS, weights=lambda names: weights, window=3, period=2, num_listed=num_listed,
        temperature=4.0, deviation=deviation,
    ).bind(problem.graph, 7)  # fmt: skip
    history, x_dict, users = [], draw(grad=True), problem.batch.unique_users.tolist()
    base = draw()
    for epoch in range(11):  # rankings before the epochs 2, 4, 6, 8 and 10
        x = {t: v + 0.3 * torch.randn_like(v) for t, v in base.items()}
        method.on_epoch_start(epoch, 11, x)
        loss = method(x_dict, problem.graph, problem.batch)
        if epoch and epoch % 2 == 0:
            history.append(numpy_of(x))
        if len(history) < 3:
            assert loss.item() == 0
            continue
        if epoch not in (6, 10):
            continue
        args = (num_listed, 4.0, deviation)
        lists = {u: oracle_consensus(history[-3:], problem.seen, u, *args) for u in users}
        now, half = numpy_of(x_dict), num_listed // 2
        expected = oracle_loss(lists, now, users, weights.tolist(), half)
        assert loss.item() == pytest.approx(expected, rel=1e-9)
        grads = torch.autograd.grad(loss, list(x_dict.values()))
        step = {t: 1e-5 * np.random.default_rng(0).standard_normal(v.shape) for t, v in now.items()}
        high, low = (
            oracle_loss(
                lists, {t: now[t] + s * step[t] for t in now}, users, weights.tolist(), half
            )
            for s in (1, -1)
        )
        slope = sum((g.numpy() * d).sum() for g, d in zip(grads, step.values(), strict=True))
        assert slope == pytest.approx((high - low) / 2, rel=1e-6)
        assert not grads[0][:, 0].any()


def their_consensus(
    now: list[dict[int, int]], spread: list[dict[int, float]], num_listed: int
) -> list[int]:
    """One user: places by head now, and deviations; items out of the lists count for nothing."""
    value: dict[int, float] = {}
    for places, deviations in zip(now, spread, strict=True):
        for item, place in places.items():
            if place < num_listed:
                value[item] = value.get(item, 0) + math.exp(-place / 4)
                value[item] += math.exp(-deviations[item] / 3)
    return sorted(value, key=lambda i: (-round(value[i], 9), i))[:num_listed]


def test_the_reference_is_timed_as_the_authors_code(problem) -> None:
    """Their loop over epochs, with its queue of rankings and its deviations, user by user."""
    heads = (*HEADS, Head("item_multinomial", 0, 4))
    window, period, num_listed, users = 3, 2, 12, problem.batch.unique_users.tolist()
    options = {"window": window, "period": period, "num_listed": num_listed}
    options |= {"temperature": 4.0, "deviation": 3.0, "variant": "reference"}
    method = ConsensusLearning(heads=heads, **options).bind(problem.graph, 7)
    queue: list[list[list[dict[int, int]]]] = []  # by time, user and head
    spread = [[dict.fromkeys(range(60), 0.0)] * 4 for _ in users]
    begun, lists, begins, base, x_dict = False, None, [], draw(), draw()
    for epoch in range(15):
        x = {t: v + 0.3 * torch.randn_like(v) for t, v in base.items()}
        method.on_epoch_start(epoch, 15, x)  # at the end of epoch - 1 there
        if epoch and (epoch - 1) % period == 0:
            if begun:
                lists = {
                    user: their_consensus(queue[-1][n], spread[n], num_listed)
                    for n, user in enumerate(users)
                }
            places = []
            for user in users:
                items = [i for i in range(60) if i not in problem.seen[user]]
                by_head = []
                for head in heads:
                    values = numpy_of(x)
                    ranked = sorted(items, key=lambda i: -score(head, values, user, i))
                    by_head.append({i: min(k, num_listed) for k, i in enumerate(ranked)})
                places.append(by_head)
            queue = [*queue, places][-window:]
            if begun and epoch - 1 <= period * window:
                spread = [
                    [
                        {i: statistics.pstdev([t[n][h][i] for t in queue]) for i in queue[-1][n][h]}
                        for h in range(4)
                    ]
                    for n in range(len(users))
                ]
            begun = begun or len(queue) == window
        loss = method(x_dict, problem.graph, problem.batch).item()
        if lists is None:
            assert loss == 0
            continue
        begins.append(epoch)
        assert {user: method.agreed[user].tolist() for user in users} == lists
        # Of the four heads the last one is not taught.
        expected = oracle_loss(lists, numpy_of(x_dict), users, [1.0] * 3, num_listed // 2)
        assert loss == pytest.approx(expected, rel=1e-9)
    assert begins[0] == method.first_epoch == 7


@pytest.mark.parametrize("variant", VARIANTS)
def test_state(problem, variant: str) -> None:
    options = {"heads": HEADS, "window": 4, "num_listed": 20, "variant": variant}
    method = ConsensusLearning(**options).bind(problem.graph, 7)
    late = int(variant == "reference")
    assert method.lists.shape == (4 + late, 3, 25, 20) and method.lists.dtype == torch.int32
    assert set(method.state_dict()) == {"lists", "agreed", "_extra_state"}
    for epoch in range(52):
        method.on_epoch_start(epoch, 60, draw())
    twin = ConsensusLearning(**options).bind(problem.graph, 7)
    twin.load_state_dict(method.state_dict())
    x, later = draw(), draw()
    for epoch in (52, 60 + late):  # between rankings, and at the next
        for one in (method, twin):
            one.on_epoch_start(epoch, 70, later)
        losses = [one(x, problem.graph, problem.batch) for one in (method, twin)]
        assert torch.equal(*losses) and losses[0] > 0
    assert torch.equal(method.agreed, twin.agreed)


def test_when_it_ranks(problem) -> None:
    method = ConsensusLearning(heads=2, window=2, period=3, num_listed=10).bind(problem.graph, 4)
    counts = []
    for epoch in range(8):
        x = draw(4) if epoch in (3, 6) else None  # it is asked for when heads rank
        method.on_epoch_start(epoch, 8, x)
        counts.append(method.num_rankings)
    assert counts == [0, 0, 0, 1, 1, 1, 2, 2] and method.first_epoch == 6
    with pytest.raises(TypeError, match="ConsensusLearning follows the student"):
        method.on_epoch_start(9, 10, None)
    assert method.num_rankings == 2
    method.unbind().bind(problem.graph, 4)
    assert method.num_rankings == 0 and method.lists.eq(-1).all()


def test_seen_items_are_never_agreed_on(problem) -> None:
    method = ConsensusLearning(window=1, period=1, num_listed=58).bind(problem.graph, 4)
    method.on_epoch_start(1, 2, draw(4))
    for user, items in enumerate(method.agreed.tolist()):
        unseen = set(range(60)) - problem.seen[user]
        assert set(items) - {-1} == unseen or len(unseen) > 58
        assert items == [i for i in items if i >= 0] + [-1] * items.count(-1)


def test_the_loss_begins_with_zero_that_hides_nothing(problem) -> None:
    method = ConsensusLearning(heads=2).bind(problem.graph, 4)
    assert method(problem.x_dict, problem.graph, problem.batch) == 0
    with torch.no_grad():
        problem.x_dict["item"][7, 1] = torch.nan
    assert method(problem.x_dict, problem.graph, problem.batch).isnan()


def test_scale(problem) -> None:
    losses = []
    for scale, factor in ((3.0, 1.0), (1.0, 3.0)):
        method = ConsensusLearning(window=1, period=1, num_listed=10, scale=scale)
        method.bind(problem.graph, 4).on_epoch_start(1, 2, problem.x_dict)
        x_dict = {"user": factor * problem.x_dict["user"], "item": problem.x_dict["item"]}
        losses.append(method(x_dict, problem.graph, problem.batch))
    torch.testing.assert_close(*losses)


def test_heads_of_equal_width_share_a_consensus(problem) -> None:
    options = {"window": 1, "period": 1, "num_listed": 10}
    both = ConsensusLearning(heads=2, **options).bind(problem.graph, 4)
    spelled = ConsensusLearning(heads=(Head("x", 0, 2), Head("y", 2, 4)), **options)
    spelled.bind(problem.graph, 4)
    for method in (both, spelled):
        method.on_epoch_start(1, 2, problem.x_dict)
    args = problem.x_dict, problem.graph, problem.batch
    assert torch.equal(both(*args), spelled(*args))
    ones = ConsensusLearning(heads=2, weights=lambda names: torch.ones(len(names)), **options)
    ones.bind(problem.graph, 4).on_epoch_start(1, 2, problem.x_dict)
    torch.testing.assert_close(ones(*args), both(*args))


def student(problem, seed: int = 0, variant: str = "paper") -> MultiBranch:
    torch.manual_seed(seed)
    heads = ("bpr", "cml", "multinomial", "item_multinomial")[: 3 + (variant == "reference")]
    return MultiBranch(problem.graph, dim=8, heads=heads, variant=variant)


def learn(model: MultiBranch, problem, folder=None, epochs: int = 9, resume: bool = False):
    options = {"window": 2, "period": 2, "num_listed": 20, "variant": model.variant}
    method = ConsensusLearning(heads=model.layout, weights=model.branch_weights, **options)
    trainer = Trainer(max_epochs=9, batch_size=32, progress=False, checkpoint_dir=folder)
    if epochs < 9:  # interrupted
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(
                model, problem.graph, distillations=[(method, 0.01)], callbacks=[Stop(epochs)]
            )
        return None
    return trainer.fit(model, problem.graph, distillations=[(method, 0.01)], resume=resume)


class Stop:
    """Interrupts a run after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def __call__(self, *_: object) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1


@pytest.fixture
def trainable(problem):
    edges = problem.graph["user", "interacts", "item"].edge_index
    lonely = set(range(25)) - set(edges[0].tolist())
    assert not lonely
    return problem


@pytest.mark.parametrize(("variant", "epochs"), [("paper", 3), ("paper", 5), ("reference", 6)])
def test_a_continued_run_ends_with_the_same_bits(
    trainable, tmp_path, variant: str, epochs: int
) -> None:
    whole, again = student(trainable, 0, variant), student(trainable, 1, variant)
    expected = learn(whole, trainable)
    learn(student(trainable, 0, variant), trainable, tmp_path, epochs)
    history = learn(again, trainable, tmp_path, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert history["ConsensusLearning"] == expected["ConsensusLearning"]
    values, begin = history["ConsensusLearning"], 4 + (variant == "reference")
    assert values[:begin] == [0.0] * begin and values[begin] > 0


def test_weights_are_those_of_the_moment(problem) -> None:
    model = student(problem)
    method = ConsensusLearning(
        heads=model.layout, weights=model.branch_weights, window=1, period=1, num_listed=10
    ).bind(problem.graph, model.out_dim)
    model.eval()
    x_dict = {key: x.detach() for key, x in model(problem.graph).items()}
    method.on_epoch_start(1, 2, x_dict)
    first = method(x_dict, problem.graph, problem.batch)
    with torch.no_grad():
        model.weights.value.fill_(1.5)
    torch.testing.assert_close(method(x_dict, problem.graph, problem.batch), 1.5 * first)
    assert not list(method.parameters())


def test_heads_come_to_agree(problem) -> None:
    method = ConsensusLearning(heads=2, window=1, period=1, num_listed=10)
    x = {t: v.detach().clone().requires_grad_() for t, v in draw(8).items()}
    method.bind(problem.graph, 8).on_epoch_start(1, 2, x)
    users = torch.arange(25)
    batch = Batch(users, users, users)

    def same_order() -> float:
        """Share of the pairs of agreed items that both heads put in the same order."""
        signs = []
        for part in (slice(0, 4), slice(4, 8)):
            scores = (x["user"][:, part] @ x["item"][:, part].t()).gather(1, method.agreed.long())
            signs.append((scores.unsqueeze(2) - scores.unsqueeze(1)).sign())
        pairs = torch.ones(10, 10).triu(1).bool()
        return (signs[0] == signs[1])[:, pairs].double().mean().item()

    before, optimizer = same_order(), torch.optim.Adam(list(x.values()), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        method(x, problem.graph, batch).backward()
        optimizer.step()
    assert before < 0.6 < 0.75 < same_order()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": ()}, r"'heads' must be one or more \(got \(\)\)"),
        ({"heads": 0}, r"'heads' must be a positive integer \(got 0\)"),
        ({"window": 0}, r"'window' must be a positive integer \(got 0\)"),
        ({"period": 0}, r"'period' must be a positive integer \(got 0\)"),
        ({"num_listed": 1}, r"'num_listed' must be an integer of 2 or more \(got 1\)"),
        ({"temperature": 0.0}, r"'temperature' must be positive \(got 0.0\)"),
        ({"deviation": 0.0}, r"'deviation' must be positive \(got 0.0\)"),
        ({"distance_scale": 0.0}, r"'distance_scale' must be positive \(got 0.0\)"),
        ({"variant": "code"}, r"'variant' must be one of \('paper', 'reference'\) \(got 'code'\)"),
        ({"scale": 0.0}, r"'scale' must be positive \(got 0.0\)"),
    ],
)
def test_refused_options(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConsensusLearning(**options)


def test_heads_must_fit(problem) -> None:
    with pytest.raises(ValueError, match=r"'heads' must divide the width 4 \(got 3\)"):
        ConsensusLearning(heads=3).bind(problem.graph, 4)
    with pytest.raises(ValueError, match=r"'heads' must lie within the width 6"):
        ConsensusLearning(heads=HEADS).bind(problem.graph, 6)


def test_repr() -> None:
    def ones(names):
        return torch.ones(3)

    text = repr(ConsensusLearning(heads=HEADS, weights=ones))
    assert text.startswith(f"ConsensusLearning(heads={HEADS!r}, weights=test_repr.<locals>.ones, ")


def test_any_student_learns_from_its_past(trainable) -> None:
    model = MF(trainable.graph, dim=8, init_std=0.1)
    method = ConsensusLearning(window=2, period=1, num_listed=20)
    history = Trainer(max_epochs=4, batch_size=32, progress=False).fit(
        model, trainable.graph, distillations=[(method, 0.01)]
    )
    values = history["ConsensusLearning"]
    assert values[:2] == [0.0, 0.0] and min(values[2:]) > 0
