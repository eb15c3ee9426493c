from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.study.refresh import forgetting, harmonic_mean
from pyg_kd.study.refresh.summary import interval_of_gain, undominated

SHARE = st.floats(0, 1, allow_subnormal=False)


@given(SHARE, SHARE)
def test_harmonic_mean(a: float, b: float) -> None:
    found = harmonic_mean(a, b)
    assert found == 0 if 0 in (a, b) else found == pytest.approx(2 / (1 / a + 1 / b))
    assert min(a, b) - 1e-12 <= found <= 2 * min(a, b) + 1e-12


@given(st.integers(0, 5), st.integers(0, 50))
def test_forgetting_against_a_loop(last: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    held = [rng.random(step + 1).tolist() for step in range(last + 1)]
    if last == 0:
        assert forgetting(held) is None
        return
    total = 0.0
    for block in range(last):
        best = -1.0
        for step in range(block, last):
            best = max(best, held[step][block])
        total += best - held[last][block]
    assert forgetting(held) == pytest.approx(total / last)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_undominated_points(points: list[tuple[int, int]]) -> None:
    found = undominated([cost for cost, _ in points], [value for _, value in points])
    for kept, (cost, value) in zip(found, points, strict=True):
        beaten = any((c <= cost and v > value) or (c < cost and v >= value) for c, v in points)
        assert kept is not beaten
    assert any(found)


def test_the_interval_of_one_cell_is_that_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    users, value = np.arange(400), rng.normal(0.1, 1.0, 400)
    other = rng.normal(0.0, 1.0, 400)
    low, high = interval_of_gain([(users, value)], [(users, other)])
    gain = value - other
    error = gain.std() / math.sqrt(400)
    assert (low + high) / 2 == pytest.approx(gain.mean(), abs=0.1 * error)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


@pytest.mark.slow
def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Users differ, and a user's gains in several cells go together, with some users missing."""
    rng, held, rounds = np.random.default_rng(0), 0, 100
    for number in range(rounds):
        taste = rng.normal(0.05, 0.2, 120)
        ours, others = [], []
        for _ in range(3):
            users = np.sort(rng.permutation(120)[:80])
            base = rng.random(80)
            ours.append((users, base + taste[users] + rng.normal(0, 0.1, 80)))
            others.append((users, base))
        low, high = interval_of_gain(ours, others, seed=number)
        held += low <= 0.05 <= high
    assert 88 <= held <= 99  # 95 expected, and 2.2 is the deviation of that


def test_seeds_of_the_same_users_are_no_more_users() -> None:
    rng = np.random.default_rng(1)
    users, gain = np.arange(200), rng.normal(size=200)
    one = interval_of_gain([(users, gain)], [(users, 0 * gain)])
    many = interval_of_gain([(users, gain)] * 5, [(users, 0 * gain)] * 5)
    assert many == pytest.approx(one)
