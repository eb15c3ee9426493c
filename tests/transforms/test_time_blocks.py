from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd import evaluate
from pyg_kd.datasets import SyntheticInteractions, from_interactions
from pyg_kd.knowledge.popularity import popular_unseen
from pyg_kd.models import Recommender
from pyg_kd.transforms import TimeBlocks, TimeStep
from pyg_kd.typing import INTERACTS, ITEM, USER

Edge = tuple[int, int]

EDGES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 40)),
    min_size=2,
    max_size=50,
    unique_by=lambda edge: edge[:2],
)


def _pairs(index: torch.Tensor) -> set[Edge]:
    edges = list(map(tuple, index.t().tolist()))
    assert len(edges) == len(set(edges))
    return set(edges)


def _starts(times: list[int], base: float, increments: int) -> list[int] | None:
    """When each increment starts; ``None`` where a block would be empty."""
    ordered, first = sorted(times), int(len(times) * base + 0.5)
    begin = [first + int((len(times) - first) / increments * k + 0.5) for k in range(increments)]
    if begin[0] < 1 or begin[-1] >= len(times):
        return None
    starts = [ordered[place] for place in begin]
    return starts if len({ordered[0], *starts}) == increments + 1 else None


@given(EDGES, st.sampled_from([0.2, 0.5, 0.8]), st.integers(1, 4), st.sampled_from([0.0, 0.2]))
def test_every_step_against_a_loop(
    edges: list[tuple[int, int, int]], base: float, increments: int, val: float
) -> None:
    user, item, time = map(list, zip(*edges, strict=True))
    data = from_interactions([user, item], time=time)
    blocks = TimeBlocks(base, increments, val=val)
    starts = _starts(time, base, increments)
    firsts = [] if starts is None else [sorted(t for t in time if t < start) for start in starts]
    ends = [None if not val else known[int(len(known) * (1 - val) + 0.5) :] for known in firsts]
    coarse = any(end and end[0] == known[0] for end, known in zip(ends, firsts, strict=True))
    if starts is None or coarse:
        with pytest.raises(ValueError, match=f"'time' must differ enough for base={base}"):
            blocks(data)
        return
    names = [sorted(set(user)), sorted(set(item))]
    number = [{name: place for place, name in enumerate(side)} for side in names]
    steps = blocks(data)
    assert [step.number for step in steps] == list(range(increments))
    assert [step.boundary for step in steps] == starts
    for step, start, end, after in zip(steps, starts, ends, [*starts[1:], 1_000], strict=True):
        cut = end[0] if end else start

        def named(low: float, high: float) -> set[Edge]:
            return {(number[0][u], number[1][i]) for u, i, t in edges if low <= t < high}

        known, train = named(-1, start), named(-1, cut)
        assert _pairs(step.train[INTERACTS].edge_index) == train
        assert _pairs(step.val[INTERACTS].edge_index) == train
        assert _pairs(step.test[INTERACTS].edge_index) == known
        assert _pairs(step.test[INTERACTS].edge_label_index) == named(start, after)
        trained = {u for u, _ in train}
        late = {(u, i) for u, i in named(cut, start) if u in trained}
        assert _pairs(step.val[INTERACTS].edge_label_index) == late
        assert step.probe is None
        assert "edge_label_index" not in step.train[INTERACTS]


@given(EDGES, st.integers(1, 3), st.sampled_from([0.0, 0.3]), st.integers(0, 2))
def test_nothing_of_the_future(
    edges: list[tuple[int, int, int]], increments: int, probe: float, seed: int
) -> None:
    """Changing what comes later changes no message, no validation target and no count."""
    user, item, time = map(list, zip(*edges, strict=True))
    data = from_interactions([user, item], time=time)
    blocks = TimeBlocks(0.5, increments, val=0.2, probe=probe, seed=seed)
    try:
        steps = blocks(data)
    except ValueError:
        return
    for step in steps:
        graphs = [step.train, step.val, step.test] + [step.probe] * (step.probe is not None)
        for graph in graphs:
            store = graph[INTERACTS]
            assert bool((store.time < step.boundary).all())
            assert graph[USER].num_nodes == data[USER].num_nodes
            assert graph[ITEM].num_nodes == data[ITEM].num_nodes
        assert bool((step.val[INTERACTS].edge_label_time < step.boundary).all())
        assert bool((step.test[INTERACTS].edge_label_time >= step.boundary).all())
        if step.train[INTERACTS].time.numel() and step.val[INTERACTS].edge_label_time.numel():
            last = step.train[INTERACTS].time.max()
            assert last < step.val[INTERACTS].edge_label_time.min()
        degree = np.zeros(int(data[ITEM].num_nodes))
        np.add.at(degree, step.test[INTERACTS].edge_index[1].numpy(), 1)
        popular = popular_unseen(step.test, torch.tensor([0]), 1)[0, 0].item()
        seen = {i for u, i in _pairs(step.test[INTERACTS].edge_index) if u == 0}
        unseen = [i for i in range(len(degree)) if i not in seen]
        assert popular == (max(unseen, key=lambda i: (degree[i], -i)) if unseen else -1)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_held_out_is_never_a_message(seed: int) -> None:
    data = SyntheticInteractions(num_users=200, num_items=80, num_edges=3_000)[0]
    plain = TimeBlocks(increments=4)(data)
    steps = TimeBlocks(increments=4, probe=0.2, seed=seed)(data)
    held: set[Edge] = set()
    before: set[Edge] = set()
    for step, whole in zip(steps, plain, strict=True):
        assert step.probe is not None
        targets = _pairs(step.probe[INTERACTS].edge_label_index)
        messages = _pairs(step.test[INTERACTS].edge_index)
        everything = _pairs(whole.test[INTERACTS].edge_index)
        assert _pairs(step.probe[INTERACTS].edge_index) == messages
        block = everything - before
        assert targets <= block and 0.1 < len(targets) / len(block) < 0.25
        held |= targets
        assert messages == everything - held
        assert {u for u, _ in targets} <= {u for u, _ in messages}
        # The next block is a target as a whole.
        wanted = _pairs(whole.test[INTERACTS].edge_label_index)
        assert _pairs(step.test[INTERACTS].edge_label_index) == wanted
        before = everything
    again = TimeBlocks(increments=4, probe=0.2, seed=seed)(data)
    for one, other in zip(steps, again, strict=True):
        assert one.probe is not None and other.probe is not None
        assert torch.equal(
            one.probe[INTERACTS].edge_label_index, other.probe[INTERACTS].edge_label_index
        )


def _counted(step: TimeStep) -> dict[str, int]:
    known = _pairs(step.test[INTERACTS].edge_index)
    targets = _pairs(step.test[INTERACTS].edge_label_index)
    users, items = {u for u, _ in known}, {i for _, i in known}
    return {
        "messages": len(known),
        "users": len(users),
        "items": len(items),
        "new users": len({u for u, _ in targets} - users),
        "new items": len({i for _, i in targets} - items),
        "targets": len(targets),
        "targets of new users": sum(u not in users for u, _ in targets),
        "targets of new items": sum(i not in items for _, i in targets),
        "targets of known users and items": sum(u in users and i in items for u, i in targets),
    }


@pytest.mark.parametrize("probe", [0.0, 0.2])
def test_newcomers_are_counted(probe: float) -> None:
    data = SyntheticInteractions(num_users=200, num_items=300, num_edges=1_500)[0]
    steps = TimeBlocks(increments=4, probe=probe)(data)
    assert any(step.counts()["new users"] for step in steps)
    assert any(step.counts()["new items"] for step in steps)
    block: dict[int, int] = {}
    for step in steps:
        assert step.counts() == _counted(step)
        for user, _ in _pairs(step.test[INTERACTS].edge_index):
            block.setdefault(user, step.number)
        told = dict(block)
        for user, _ in _pairs(step.test[INTERACTS].edge_label_index):
            told.setdefault(user, step.number + 1)
        assert step.user_since.tolist() == [told.get(user, -1) for user in range(200)]


def test_blocks_are_equally_large() -> None:
    data = from_interactions([[0] * 103, [*range(103)]], time=list(range(103)))
    steps = TimeBlocks(0.5, 5)(data)
    sizes = [step.counts()["targets"] for step in steps]
    assert steps[0].counts()["messages"] == 52 and sum(sizes) == 51
    assert max(sizes) - min(sizes) <= 1


def test_ties_go_to_the_later_block() -> None:
    data = from_interactions([[0] * 8, [*range(8)]], time=[0, 1, 2, 3, 3, 3, 4, 5])
    (step,) = TimeBlocks(0.5, 1, val=0.0)(data)  # number 4 is one of three at time 3
    assert step.test[INTERACTS].time.tolist() == [0, 1, 2]
    assert step.test[INTERACTS].edge_label_time.tolist() == [3, 3, 3, 4, 5]
    assert step.boundary == 3


def test_other_relations_lose_what_comes_later() -> None:
    data = from_interactions([[0, 0, 1, 1], [0, 1, 0, 1]], time=[0, 1, 2, 3])
    data[USER, "viewed", ITEM].edge_index = data[INTERACTS].edge_index.clone()
    data[ITEM, "near", ITEM].edge_index = torch.tensor([[0], [1]])
    data[USER, "viewed", ITEM].weight = torch.arange(4)
    data.interaction_relation = "interacts"
    (step,) = TimeBlocks(0.5, 1, val=0.0)(data)
    assert step.test[USER, "viewed", ITEM].weight.tolist() == [0, 1]
    assert step.test[ITEM, "near", ITEM].edge_index.tolist() == [[0], [1]]
    assert data[USER, "viewed", ITEM].weight.tolist() == [0, 1, 2, 3]


def test_a_step_is_evaluated_as_any_split() -> None:
    data = SyntheticInteractions(num_users=60, num_items=40, num_edges=600)[0]
    step = TimeBlocks()(data)[0]
    model = Recommender.from_embeddings(step.test, torch.randn(60, 4), torch.randn(40, 4))
    assert 0 <= evaluate(model, step.test, step.test, k=5, metrics=["recall"])["recall@5"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": 0.0}, r"'base' must lie between 0 and 1 \(got 0.0\)"),
        ({"base": 1.0}, r"'base' must lie between 0 and 1 \(got 1.0\)"),
        ({"increments": 0}, r"'increments' must be a positive integer \(got 0\)"),
        ({"val": 1.0}, r"'val' must lie in 0..1, 1 excluded \(got 1.0\)"),
        ({"probe": -0.1}, r"'probe' must lie in 0..1, 1 excluded \(got -0.1\)"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimeBlocks(**options)  # type: ignore[arg-type]


def test_graphs_are_checked() -> None:
    data = from_interactions([[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="must have the edge attribute 'time'"):
        TimeBlocks()(data)
    data[INTERACTS].time = torch.tensor([1, 2])
    data[INTERACTS].edge_label_index = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match="'data' must have no targets yet"):
        TimeBlocks()(data)


def test_repr() -> None:
    assert repr(TimeBlocks()) == "TimeBlocks(base=0.5, increments=5, val=0.1, probe=0.0, seed=0)"
