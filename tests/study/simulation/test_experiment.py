from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.models import MF
from pyg_kd.study.report import to_markdown
from pyg_kd.study.simulation import (
    Cascade,
    FixedLists,
    LatencyEffect,
    PositionBias,
    Ratio,
    TasteWorld,
    ab_test,
    expected_clicks,
    feedback_loop,
    feedback_section,
    interleaving_test,
    simulate,
)
from pyg_kd.study.simulation.experiment import Experiment
from pyg_kd.study.simulation.feedback import with_clicks
from pyg_kd.study.simulation.section import experiment_section
from pyg_kd.study.simulation.visitors import draw_visitors

USERS, ITEMS, K = 150, 60, 5


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return SyntheticInteractions(num_users=USERS, num_items=ITEMS, num_edges=1_200, num_groups=6)[0]


@pytest.fixture(scope="module")
def world(data: HeteroData) -> TasteWorld:
    return TasteWorld.from_data(data, readiness_spread=0.8)


def popular(data: HeteroData) -> Tensor:
    degree = torch.bincount(data["user", "item"].edge_index[1], minlength=ITEMS)
    return degree.argsort(descending=True, stable=True)[:K].repeat(USERS, 1)


def mixed(world: TasteWorld, data: HeteroData) -> Tensor:
    """Popular items with the best one of each user in front."""
    best, rest = world.ideal_lists(1), popular(data)
    rest = torch.where(rest == best, -1, rest)
    order = (rest < 0).long().argsort(dim=1, stable=True)
    return torch.cat([best, rest.gather(1, order)[:, : K - 1]], 1)


@pytest.fixture(scope="module")
def found(world: TasteWorld, data: HeteroData) -> Experiment:
    arms = {"popular": popular(data), "same": popular(data), "mixed": mixed(world, data)}
    return simulate(world, arms, control="popular", k=K, visitors=2_000, seed=3)


def test_truth_is_that_of_the_lists(found: Experiment, world: TasteWorld, data: HeteroData) -> None:
    value = {
        name: 3.0 * float(expected_clicks(world, FixedLists(lists), PositionBias()).mean())
        for name, lists in (("popular", popular(data)), ("mixed", mixed(world, data)))
    }
    assert found.expected["mixed"] == pytest.approx(value["mixed"])
    same, other = found.outcomes
    assert (same.true_difference, same.true_lift, same.shared) == (0, 0, 1)
    assert other.true_difference == pytest.approx(value["mixed"] - value["popular"])
    assert other.true_lift == pytest.approx(value["mixed"] / value["popular"] - 1)
    for test in (other.plain, other.cuped):
        # One draw: within five standard errors.
        assert abs(test.difference - other.true_difference) < 5 * test.standard_error
    assert other.cuped.variance_reduction > 0.05
    assert other.interleaving.effect > 0 and other.interleaving.p_value < 1e-6
    assert other.needed["A/B, CUPED"] < other.needed["A/B"]
    assert other.needed["interleaving"] < other.needed["A/B"]
    assert "A/B" not in same.needed


def test_tests_are_those_of_what_was_counted(found: Experiment) -> None:
    one = found.outcomes[1]
    m = one.measured
    treated = m.treated
    assert treated.sum() == 1_000 and (m.visits >= 1).all()
    assert one.plain == ab_test(m.clicks[~treated], m.clicks[treated])
    ratio = [Ratio(m.clicks[side], m.visits[side]) for side in (~treated, treated)]
    assert one.ratio == ab_test(*ratio)
    before = m.before[~treated], m.before[treated]
    assert one.cuped == ab_test(m.clicks[~treated], m.clicks[treated], covariate=before)
    assert one.interleaving == interleaving_test(m.credit[:, 0], m.credit[:, 1], test="t")
    # Visits and clicks of a visitor go together over periods; this is what the covariate uses.
    assert np.corrcoef(m.before, m.clicks)[0, 1] > 0.2


def test_a_seed_decides(world: TasteWorld, data: HeteroData) -> None:
    arms = {"popular": popular(data), "mixed": mixed(world, data)}
    one, again, other = (
        simulate(world, arms, control="popular", k=K, visitors=200, seed=seed).outcomes[0]
        for seed in (3, 3, 4)
    )
    assert one.plain == again.plain and one.interleaving == again.interleaving
    assert one.plain != other.plain


def test_waiting_costs_what_is_assumed(world: TasteWorld, data: HeteroData) -> None:
    arms = {"fast": popular(data), "slow": popular(data)}
    options = {"control": "fast", "k": K, "visitors": 2_000, "clicks": Cascade()}
    latency = {"slow": 2_000.0}
    free = simulate(world, arms, latency=latency, **options).outcomes[0]
    assert free.true_difference == 0
    effect = LatencyEffect(per_100ms=0.05)
    slow = simulate(world, arms, latency=latency, effect=effect, **options).outcomes[0]
    assert slow.true_lift == pytest.approx(0.95**20 - 1)
    low, high = slow.plain.lift_interval
    assert low < slow.true_lift < high < 0


def test_visitors_are_a_sample_of_the_world(world: TasteWorld) -> None:
    rng = torch.Generator().manual_seed(0)
    group = draw_visitors(world, 60_001, visits=3.0, generator=rng)
    assert int(group.treated.sum()) == 30_000
    for times in (group.before, group.during):
        assert int(times.min()) == 1
        assert float(times.double().mean()) == pytest.approx(3.0, abs=0.03)
        # Poisson with a rate that is gamma of shape 2 and mean 2: variance 2 + 2**2 / 2.
        assert float(times.double().var()) == pytest.approx(4.0, abs=0.15)
    count = torch.bincount(group.user, minlength=USERS).double()
    assert float(((count - 400) ** 2 / 400).sum()) < 149 + 5 * (2 * 149) ** 0.5


def test_section_shows_tables_and_draws_its_figure(found: Experiment) -> None:
    from matplotlib.figure import Figure

    section = experiment_section(found)
    text = to_markdown(section)
    assert "2,000 visitors" in text and "| same" in text and "LatencyEffect(per_100ms=0.0)" in text
    assert f"{found.outcomes[1].true_lift:+.1%}" in text
    canvas = Figure()
    section.figures[0].draw(canvas)
    assert [t.get_text() for t in canvas.axes[0].get_yticklabels()] == ["same", "mixed"]


def test_bad_experiments(world: TasteWorld, data: HeteroData) -> None:
    arms = {"a": popular(data), "b": popular(data)}
    for options, message in (
        ({"control": "c"}, r"'control' must be one of \['a', 'b'\] \(got 'c'\)"),
        ({"k": 6}, r"'a' must be \[U, 6\] or longer \(got \[150, 5\]\)"),
        ({"latency": {"c": 1.0}}, r"'latency' must name arms, \['a', 'b'\] \(got 'c'\)"),
        ({"visitors": 3}, r"'visitors' must be an integer of 4 or more \(got 3\)"),
        ({"visits": 0.5}, r"'visits' must be 1 or more \(got 0.5\)"),
        ({"arms": {"a": popular(data)}}, "'arms' must name a treatment besides the control"),
        ({"arms": {"a": popular(data)[:9], "b": popular(data)}}, "'policy' must be for 150 users"),
    ):
        with pytest.raises(ValueError, match=message):
            given = {"arms": arms, "control": "a", "k": K, "visitors": 100, **options}
            simulate(world, given.pop("arms"), **given)


def test_clicks_become_edges_and_known_pairs_stay_one(data: HeteroData) -> None:
    edge_index = data["user", "item"].edge_index
    new = torch.tensor([[0, 0, 7], [59, 59, 3]])
    pairs = {tuple(p) for p in edge_index.t().tolist()} | {tuple(p) for p in new.t().tolist()}
    grown = with_clicks(
        data, torch.cat([new[0], edge_index[0, :5]]), torch.cat([new[1], edge_index[1, :5]])
    )
    assert {tuple(p) for p in grown["user", "item"].edge_index.t().tolist()} == pairs
    assert grown["user", "item"].edge_index.size(1) == len(pairs)
    assert torch.equal(grown["item"].group, data["item"].group)


def test_feedback_loop_learns_from_clicks_and_nothing_else(
    world: TasteWorld, data: HeteroData
) -> None:
    graphs: list[HeteroData] = []

    def serving(graph: HeteroData, week: int) -> MF:
        assert week == len(graphs)
        graphs.append(graph)
        torch.manual_seed(week)
        return MF(graph, dim=3)

    weeks = feedback_loop(world, data, serving, weeks=3, k=K, visit=1.0, seed=1)
    assert [w.week for w in weeks] == [0, 1, 2] and graphs[0] is data
    sizes = [g["user", "item"].edge_index.size(1) for g in graphs]
    for week, size, after in zip(weeks, sizes, [*sizes[1:], weeks[-1].edges], strict=True):
        # All users come, and unseen items alone are served: each click is a new edge.
        assert after - size == round(week.clicks * USERS) and week.edges == after
    degree = torch.bincount(graphs[1]["user", "item"].edge_index[1], minlength=ITEMS).double()
    differences = (degree[:, None] - degree).abs().sum()
    assert weeks[0].gini_known == pytest.approx(float(differences / (2 * ITEMS * degree.sum())))


def test_feedback_loop_of_the_same_lists_counts_what_is_served(
    world: TasteWorld, data: HeteroData
) -> None:
    lists = popular(data)
    weeks = feedback_loop(world, data, lambda graph, week: lists, weeks=2, k=K, visit=0.5)
    for week in weeks:
        assert week.coverage == pytest.approx(K / ITEMS) and week.head == 1.0
        assert week.gini_served == pytest.approx(1 - K / ITEMS)
        truth = expected_clicks(world, FixedLists(lists), PositionBias()).mean()
        assert week.expected == pytest.approx(float(truth))
        assert week.clicks == pytest.approx(week.expected, abs=0.35)
    text = to_markdown(feedback_section({"popular": weeks}))
    assert "popular" in text and "0.083 → 0.083" in text


def test_bad_feedback_loops(world: TasteWorld, data: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"'visit' must lie in 0..1 \(got 2\)"):
        feedback_loop(world, data, lambda graph, week: popular(data), visit=2)
    with pytest.raises(ValueError, match="'serving' must list an item once"):
        feedback_loop(world, data, lambda graph, week: torch.zeros(USERS, 10, dtype=torch.long))
    other = SyntheticInteractions(num_users=20, num_items=10, num_edges=60)[0]
    with pytest.raises(ValueError, match=r"'data' must be of 150 users and 60 items, as 'world'"):
        feedback_loop(world, other, lambda graph, week: popular(data))
    with pytest.raises(ValueError, match="'worlds' must hold weeks by name"):
        feedback_section({})
