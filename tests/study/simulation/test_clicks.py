from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.graph import interactions
from pyg_kd.models import MF
from pyg_kd.retrieval import TopKIndex
from pyg_kd.study.simulation import (
    Cascade,
    EpsilonShuffle,
    FixedLists,
    LatencyEffect,
    PlackettLuce,
    PositionBias,
    TasteWorld,
    expected_clicks,
    measured_latency,
    serve,
    served_lists,
)

RELEVANCE = [0.8, 0.3, 0.5, 0.1]


def cascade_by_hand(relevance: list[float], satisfaction: float, patience: float) -> np.ndarray:
    """The chance of a click at each position, over all that can happen on a list."""
    found = np.zeros(len(relevance))
    for events in product(range(3), repeat=len(relevance)):  # no click, click, click and satisfied
        for goes_on in product([False, True], repeat=len(relevance)):
            chance, open_, clicked = 1.0, True, np.zeros(len(relevance))
            for k, (event, on) in enumerate(zip(events, goes_on, strict=True)):
                r = relevance[k]
                chance *= (1 - r, r * (1 - satisfaction), r * satisfaction)[event]
                chance *= patience if on else 1 - patience
                clicked[k] = open_ and event > 0
                open_ = open_ and event < 2 and on
            found += chance * clicked
    return found


@pytest.mark.parametrize(("satisfaction", "patience"), [(0.5, 0.9), (1.0, 1.0), (0.0, 0.4)])
def test_cascade_by_enumeration(satisfaction: float, patience: float) -> None:
    found = Cascade(satisfaction, patience).probabilities(torch.tensor([RELEVANCE]).double())
    wanted = cascade_by_hand(RELEVANCE, satisfaction, patience)
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("model", [PositionBias(0.0), PositionBias(1.5), Cascade(), Cascade(1, 1)])
def test_clicks_are_drawn_as_often_as_said(model: PositionBias | Cascade) -> None:
    relevance = torch.tensor([RELEVANCE]).double()
    drawn = model.sample(relevance.expand(40_000, -1), torch.Generator().manual_seed(0))
    wanted = model.probabilities(relevance)[0]
    error = (wanted * (1 - wanted) / 40_000).sqrt()
    assert ((drawn.double().mean(0) - wanted).abs() < 4.5 * error + 1e-12).all()


def test_position_bias_by_its_formula() -> None:
    found = PositionBias(eta=0.5).probabilities(torch.tensor([RELEVANCE]).double())[0]
    wanted = [r * (k + 1) ** -0.5 for k, r in enumerate(RELEVANCE)]
    np.testing.assert_allclose(found.numpy(), wanted)


def graph() -> object:
    return SyntheticInteractions(num_users=60, num_items=40, num_edges=500, num_groups=4)[0]


def test_relevance_pair_by_pair() -> None:
    data = graph()
    world = TasteWorld.from_data(data, attraction_power=0.5, readiness_spread=0.4, seed=1)
    degree = torch.bincount(data["user", "item"].edge_index[1], minlength=40)
    rng = np.random.default_rng(0)
    users, items = rng.integers(60, size=30), rng.integers(-1, 40, size=(30, 5))
    found = world.relevance(torch.from_numpy(users), torch.from_numpy(items))
    for row, user in enumerate(users):
        for place, item in enumerate(items[row]):
            wanted = 0.0
            if item >= 0:
                first, second = data["user"].group[user].tolist()
                group = int(data["item"].group[item])
                wanted = 0.6 if group == first else 0.3 if group == second else 0.05
                wanted *= float((degree[item] + 1) / (degree.max() + 1)) ** 0.5
                wanted *= float(world.readiness[user])
            assert float(found[row, place]) == pytest.approx(wanted)
    assert 0.6 <= float(world.readiness.min()) < float(world.readiness.max()) <= 1


def test_ideal_lists_hold_the_most_relevant() -> None:
    data = graph()
    world = TasteWorld.from_data(data, attraction_power=0.5)
    everything = torch.arange(40).expand(60, -1)
    all_ = world.relevance(torch.arange(60), everything)
    for seen in (None, data):
        wanted = all_.clone()
        if seen is not None:
            wanted[tuple(data["user", "item"].edge_index)] = -1
        found = world.ideal_lists(5, seen)
        values = world.relevance(torch.arange(60), found)
        torch.testing.assert_close(values, wanted.topk(5).values.clamp(min=0))


def test_served_lists_are_those_of_the_model_the_index_and_the_array() -> None:
    data = graph()
    torch.manual_seed(0)
    model = MF(data, dim=4)
    lists = served_lists(model, 5, data=data)
    index = TopKIndex.from_model(model, data)
    assert torch.equal(served_lists(index, 5), lists)
    assert torch.equal(served_lists(lists.numpy(), 3), lists[:, :3])
    by_user = interactions(data).by_user()
    for user in range(60):
        seen = by_user.col[by_user.ptr[user] : by_user.ptr[user + 1]].tolist()
        assert not set(lists[user].tolist()) & set(seen)


def test_served_lists_refuses_what_is_none() -> None:
    with pytest.raises(ValueError, match=r"'lists' is a model, which needs the graph in 'data'"):
        served_lists(MF(graph(), dim=2), 3)
    with pytest.raises(TypeError, match=r"'arm' must be lists of items \[U, K\], a Recommender or"):
        served_lists("lists", 3, name="arm")
    with pytest.raises(TypeError, match=r"'lists' must hold integers, rows of items \(got torch.f"):
        served_lists([[0.5]], 1)
    with pytest.raises(ValueError, match=r"'lists' must be \[U, 3\] or longer \(got \[1, 2\]\)"):
        served_lists([[0, 1]], 3)


def test_expected_clicks_are_the_mean_of_what_is_drawn() -> None:
    world = TasteWorld.from_data(graph(), readiness_spread=0.3)
    rng = torch.Generator().manual_seed(2)
    pool = torch.stack([torch.randperm(40, generator=rng)[:6] for _ in range(60)])
    visits = torch.arange(60).repeat(300)
    for policy in (FixedLists(pool, k=4), EpsilonShuffle(pool, 4), PlackettLuce(pool, 4)):
        for model in (PositionBias(), Cascade()):
            if isinstance(model, Cascade) and not isinstance(policy, FixedLists):
                with pytest.raises(ValueError, match="'clicks' must be independent by position"):
                    expected_clicks(world, policy, model)
                continue
            wanted = expected_clicks(world, policy, model)
            log = serve(world, policy, visits, clicks=model, generator=rng)
            total = log.clicks.sum(1).double()
            error = float(total.std()) / len(visits) ** 0.5
            assert abs(float(total.mean() - wanted.mean())) < 4 * error
            some = torch.tensor([7, 3, 7])
            torch.testing.assert_close(expected_clicks(world, policy, model, some), wanted[some])
            half = serve(world, policy, visits, clicks=model, generator=rng, stay=0.5)
            assert abs(float(half.clicks.sum()) / float(total.sum()) - 0.5) < 0.03


def test_a_seed_gives_the_same_log_whatever_was_drawn_elsewhere() -> None:
    world, pool = TasteWorld.from_data(graph()), torch.arange(6).expand(60, 6).contiguous()
    logs = []
    for _ in range(2):
        torch.rand(3)
        rng = torch.Generator().manual_seed(5)
        logs.append(
            serve(world, PlackettLuce(pool), torch.arange(60), clicks=Cascade(), generator=rng)
        )
    assert all(torch.equal(a, b) for a, b in zip(*logs, strict=True))


def test_latency_is_an_assumption() -> None:
    assert LatencyEffect().stay(5_000.0) == 1.0
    assert LatencyEffect(0.02).stay(300.0) == pytest.approx(0.98**3)
    with pytest.raises(ValueError, match=r"'per_100ms' must lie in 0..1 \(got 2\)"):
        LatencyEffect(2)
    with pytest.raises(ValueError, match=r"'milliseconds' must be 0 or more \(got -1\)"):
        LatencyEffect().stay(-1)


def test_measured_latency_is_read_from_either_report(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"rows": {"teacher": {"p50": 0.8, "mean": 0.9}}}))
    assert measured_latency(path, "teacher", "mean") == 0.9
    with pytest.raises(ValueError, match=r"'row' must be one of \['teacher'\] \(got 'student'\)"):
        measured_latency(path, "student")
    with pytest.raises(ValueError, match=r"'statistic' must be one of \['p50', 'mean'\]"):
        measured_latency(path, "teacher", "p99")
    path.write_text(json.dumps({"runs": {"closed": {"p50": 3.5}}}))
    assert measured_latency(path, "closed") == 3.5


def test_bad_worlds() -> None:
    users, items = torch.tensor([[0, 1]]), torch.tensor([0, 1])
    for options, message in (
        ({"relevance": (0.5, 0.2)}, "'relevance' must be three numbers (got 2)"),
        ({"relevance": (1.5, 0.2, 0.1)}, "'relevance' must lie in 0..1 (got 1.5)"),
        ({"attraction": torch.tensor([0.5, -0.5])}, "'attraction' must lie in 0..1 (got -0.5)"),
        (
            {"readiness": torch.ones(2)},
            "'readiness' must be [1] on cpu (got [2] on cpu)",
        ),
    ):
        with pytest.raises(ValueError) as error:
            TasteWorld(users, items, **options)
        assert str(error.value) == message
    with pytest.raises(ValueError, match=r"'user_group' must be \[U, 2\] \(got \[2\]\)"):
        TasteWorld(items, items)
    world = TasteWorld(users, items)
    with pytest.raises(ValueError, match=r"'items' must lie in -1..1 \(got 2\)"):
        world.relevance(torch.tensor([0]), torch.tensor([[2]]))
    plain = graph()
    del plain["item"].group
    with pytest.raises(ValueError, match=r"'data\['item'\].group' is not set"):
        TasteWorld.from_data(plain)
    with pytest.raises(ValueError, match="'policy' must be for 1 users, as 'world'"):
        expected_clicks(world, FixedLists(torch.tensor([[0], [1]])), PositionBias())
    with pytest.raises(ValueError, match=r"'stay' must lie in 0..1 \(got 2\)"):
        policy = FixedLists(torch.tensor([[0]]))
        rng = torch.Generator()
        serve(world, policy, torch.tensor([0]), clicks=Cascade(), generator=rng, stay=2)
