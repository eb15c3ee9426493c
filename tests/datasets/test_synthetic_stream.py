from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets import SyntheticInteractions, SyntheticStream, taste_probabilities
from pyg_kd.graph import interactions
from pyg_kd.typing import INTERACTS, ITEM, USER


@st.composite
def _options(draw: st.DrawFn) -> dict[str, float]:
    users, items = draw(st.integers(1, 10)), draw(st.integers(1, 10))
    return {
        "num_users": users,
        "num_items": items,
        "num_edges": draw(st.integers(users, users * items)),
        "num_groups": draw(st.integers(1, 14)),
        "num_periods": draw(st.integers(1, 5)),
        "drift": draw(st.sampled_from([0.0, 2.0])),
        "swing": draw(st.sampled_from([0.0, 1.5])),
        "seed": draw(st.integers(0, 2)),
    }


@given(_options())
def test_exact_size_for_every_shape(options: dict[str, float]) -> None:
    data = SyntheticStream(**options)[0]  # type: ignore[arg-type]
    edge_index, num_users, num_items = interactions(data)
    periods = options["num_periods"]
    assert (num_users, num_items) == (options["num_users"], options["num_items"])
    edges = list(map(tuple, edge_index.t().tolist()))
    assert len(edges) == options["num_edges"] and edges == sorted(set(edges))
    least = min(3, int(options["num_edges"]) // num_users)
    assert int(torch.bincount(edge_index[0], minlength=num_users).min()) >= least
    assert data[USER].group_at.shape == (num_users, periods, 2)
    assert torch.equal(data[USER].group, data[USER].group_at[:, -1])
    assert set(data[USER].group_at.flatten().tolist()) <= set(data[ITEM].group.tolist())
    start, time = data.period_start, data[INTERACTS].time
    assert len(start) == periods + 1
    assert start[0] <= time.min() and time.max() < start[-1]


def test_seed_alone_decides() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = SyntheticStream(seed=3)[0]
    assert torch.equal(torch.get_rng_state(), state)
    second, third = SyntheticStream(seed=3)[0], SyntheticStream(seed=4)[0]
    for kind, key in ((INTERACTS, "edge_index"), (INTERACTS, "time"), (USER, "group_at")):
        assert torch.equal(first[kind][key], second[kind][key])
        assert not torch.equal(first[kind][key], third[kind][key])


def test_the_data_set_without_drift_has_not_changed() -> None:
    store = SyntheticInteractions(seed=7, num_users=300, num_items=120, num_edges=4_000)[0]
    content = torch.cat([store[INTERACTS].edge_index.flatten(), store[INTERACTS].time])
    digest = hashlib.sha256(content.numpy().astype("<i8").tobytes()).hexdigest()
    assert digest == "7ec9213cd7201d9c4801cd345f5e32b5662ce9a87844adf97fc170453f15b223"


def test_nothing_changes_without_drift_and_swing() -> None:
    data = SyntheticStream(drift=0, swing=0)[0]
    assert bool((data[USER].group_at == data[USER].group_at[:, :1]).all())
    popularity = data[ITEM].popularity_at
    assert torch.allclose(popularity, popularity[:, :1].expand_as(popularity))
    ranks = popularity[:, 0].sort(descending=True).values
    assert np.allclose(ranks, np.arange(1, 1_001) ** -0.8)


def test_tastes_change_at_the_rate_of_the_drift() -> None:
    data = SyntheticStream(num_users=20_000, num_edges=60_000, drift=3.0, num_periods=12)[0]
    liked = data[USER].group_at
    changed = (liked[:, 1:] != liked[:, :-1]).double().mean(dim=(0, 2))
    expected = (1 - math.exp(-3 / 12)) * 15 / 16  # one in 16 draws is the same group
    error = math.sqrt(expected * (1 - expected) / 40_000)
    assert bool((changed - expected).abs().max() < 4.5 * error)


def test_users_join_over_a_part_of_the_time() -> None:
    """Of many interactions, the first comes soon after joining."""
    sizes = {"num_users": 300, "num_items": 2_000, "num_edges": 60_000}
    for joining in (0.0, 0.5, 0.9):
        store = SyntheticStream(joining=joining, **sizes)[0][INTERACTS]
        busy = torch.bincount(store.edge_index[0]) > 100
        first = torch.full((300,), 2**40).scatter_reduce(0, store.edge_index[0], store.time, "amin")
        share = (first[busy] - 1_500_000_000).double() / 63_072_000
        assert joining * 0.8 <= float(share.max()) <= joining + 0.1
        assert float(share.mean()) == pytest.approx(joining / 2, abs=0.08)


def test_popularity_rises_and_falls() -> None:
    data = SyntheticStream(swing=1.5, num_periods=48)[0]
    log = data[ITEM].popularity_at.log().numpy()
    spread = log.max(1) - log.min(1)
    assert np.allclose(spread, 3.0, atol=0.02)  # twice the swing, but for the grid of periods
    centre = np.exp(log.mean(1))  # a cosine has mean zero over whole periods
    assert np.allclose(np.sort(centre)[::-1], np.arange(1, 1_001) ** -0.8)


def test_probabilities_against_a_loop() -> None:
    data = SyntheticStream(num_users=5, num_items=12, num_edges=40, num_groups=3, affinity=0.6)[0]
    found = taste_probabilities(data, torch.tensor([3, 0]), 5).numpy()
    popularity = data[ITEM].popularity_at[:, 5].numpy()
    group = data[ITEM].group.numpy()
    for row, user in enumerate((3, 0)):
        wanted = 0.4 * popularity / popularity.sum()
        for share, liked in zip((0.4, 0.2), data[USER].group_at[user, 5].tolist(), strict=True):
            inside = np.where(group == liked, popularity, 0.0)
            wanted = wanted + share * inside / inside.sum()
        assert np.allclose(found[row], wanted, atol=1e-12)


def test_interactions_follow_the_tastes_of_their_time() -> None:
    """Among sparse interactions, the shares of groups are those of the closed form."""
    data = SyntheticStream(
        num_users=30_000, num_items=20_000, num_edges=90_000, drift=4.0, swing=2.0, num_groups=8
    )[0]
    user, item = data[INTERACTS].edge_index
    period = torch.bucketize(data[INTERACTS].time, data.period_start, right=True) - 1
    group, liked = data[ITEM].group[item], data[USER].group_at
    popularity = data[ITEM].popularity_at
    share = torch.zeros(8, popularity.size(1), dtype=torch.double)
    share.index_add_(0, data[ITEM].group, popularity / popularity.sum(0))
    for side, taste in ((0, 1.6 / 3), (1, 0.8 / 3)):
        own, other = liked[user, period, side], liked[user, period, 1 - side]
        differ = own != other
        wanted = taste + 0.2 * share[own, period]
        hit = (group == own).double()
        gap = float((hit - wanted)[differ].mean())
        assert abs(gap) < 5 * 0.5 / math.sqrt(int(differ.sum()))
        # The tastes of the other end of the timeline explain less.
        far = liked[user, (period + 12) % 24, side]
        assert float(((group == far).double() - wanted)[differ].mean()) < -0.1
    # Within a group the more popular half of the moment gets what it should.
    high = popularity[item, period] > popularity[item, (period + 12) % 24]
    assert float(high.double().mean()) > 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drift": -1.0}, r"'drift' must be 0 or more \(got -1.0\)"),
        ({"swing": float("inf")}, r"'swing' must be 0 or more and finite \(got inf\)"),
        ({"num_periods": 0}, r"'num_periods' must be a positive integer \(got 0\)"),
        ({"joining": 1.0}, r"'joining' must lie in 0..1, 1 excluded \(got 1.0\)"),
        ({"affinity": 1.5}, r"'affinity' must lie in 0..1 \(got 1.5\)"),
        ({"num_users": 3, "num_items": 4, "num_edges": 13}, r"'num_edges' .* 3..12.*got 13"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticStream(**options)  # type: ignore[arg-type]


def test_tastes_are_asked_for_with_care() -> None:
    data = SyntheticStream(num_users=5, num_items=12, num_edges=40)[0]
    with pytest.raises(ValueError, match=r"'period' must lie in 0..23 \(got 24\)"):
        taste_probabilities(data, [0], 24)
    with pytest.raises(ValueError, match=r"'users' must lie in 0..4 \(got 5\)"):
        taste_probabilities(data, [5], 0)
    with pytest.raises(ValueError, match="take a graph of SyntheticStream"):
        taste_probabilities(SyntheticInteractions()[0], [0], 0)
