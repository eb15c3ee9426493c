"""The bootstrap over users and seeds: against closed forms, SciPy and simulation."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pyg_kd.evaluation import two_way
from pyg_kd.evaluation.two_way import (
    components,
    draw_runs,
    draw_users,
    percentiles,
    replicates,
    two_sided,
)


def crossed(rng, k: int, n: int, users: float, runs: float, noise: float) -> np.ndarray:
    """Values of runs and users; what a user is worth is skewed."""
    worth = users * (rng.exponential(size=n) - 1)
    luck = runs * rng.standard_normal((k, 1))
    return worth + luck + noise * rng.standard_normal((k, n))


def bootstrap(values: np.ndarray, num: int, seed: int = 0) -> np.ndarray:
    draws = draw_users(values.mean(0)[:, None], num, seed)
    return replicates(values[:, :, None], draws)[:, 0]


def test_users_alone_are_as_scipy_resamples_them() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=80)
    found = bootstrap(values[None], 20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=rng
    )
    assert found.mean() == pytest.approx(values.mean(), abs=0.003)
    assert found.std() == pytest.approx(values.std(ddof=1) / sqrt(80), rel=0.02)
    low, high = theirs.confidence_interval
    assert percentiles(found) == pytest.approx((low, high), abs=0.02)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_runs_alone_are_student_s_t(k: int) -> None:
    means = np.random.default_rng(k).standard_normal(k)
    values = np.tile(means[:, None], (1, 40))  # all users alike: nothing but the run varies
    found = bootstrap(values, 40_000)
    test = stats.ttest_1samp(means, 0.0)
    assert two_sided(found) == pytest.approx(test.pvalue, abs=0.015)
    for level in (0.5, 0.9):
        expected = test.confidence_interval(level)
        width = expected.high - expected.low
        assert percentiles(found, level) == pytest.approx(tuple(expected), abs=0.04 * width)


def naive_components(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean products of users, runs and the rest, by loops."""
    k, n, m = x.shape
    centre = x.mean((0, 1))
    users, runs, noise = (np.zeros((m, m)) for _ in range(3))
    for u in range(n):
        gap = x[:, u].mean(0) - centre
        users += np.outer(gap, gap) / (n - 1)
    for s in range(k):
        gap = x[s].mean(0) - centre
        runs += np.outer(gap, gap) / (k - 1)
        for u in range(n):
            rest = x[s, u] - x[s].mean(0) - x[:, u].mean(0) + centre
            noise += np.outer(rest, rest) / ((k - 1) * (n - 1))
    return users, runs, noise


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 4), st.integers(3, 12), st.integers(1, 3), st.integers(0, 99))
def test_components_by_loops(k: int, n: int, m: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((k, n, m))
    users, runs, noise = naive_components(x)
    found = components(x)
    assert np.allclose(found.means, users) and np.allclose(found.runs, runs)
    assert np.allclose(found.noise, noise)
    assert np.linalg.eigvalsh(found.users).min() > -1e-12
    if np.linalg.eigvalsh(users - noise / k).min() >= 0:
        assert np.allclose(found.users, users - noise / k)


def test_replicates_vary_as_much_as_the_components_say() -> None:
    rng = np.random.default_rng(3)
    worth = rng.standard_normal((200, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    k = 9  # weights of runs have the variance (k - 1) / (k - 3) of a t distribution
    x = worth + 0.05 * rng.standard_normal((k, 1, 2)) + 0.5 * rng.standard_normal((k, 200, 2))
    users, runs, noise = naive_components(x)
    draws = draw_users(x.mean(0), 40_000, 0)
    expected = (users - noise / k) / 200 + runs / k * (k - 1) / (k - 3)
    assert np.allclose(np.cov(replicates(x, draws).T), expected, rtol=0.05)


def test_blocks_change_nothing(monkeypatch) -> None:
    columns = np.random.default_rng(0).random((30, 2))
    whole = draw_users(columns, 50, 1).users
    monkeypatch.setattr(two_way, "BLOCK", 100)
    assert np.allclose(draw_users(columns, 50, 1).users, whole, atol=1e-15)
    assert not np.allclose(draw_users(columns, 50, 2).users, whole)


def test_weights_of_runs_add_up() -> None:
    weights = draw_runs(4, 1_000, 0)
    assert np.abs(weights.sum(1)).max() < 1e-12 and weights.std() > 0.1
    assert not draw_runs(1, 10, 0).any()


def test_constant_values_do_not_vary() -> None:
    found = bootstrap(np.full((3, 20), 0.25), 100)
    assert np.allclose(found, 0.25, atol=1e-12)
    assert two_sided(np.zeros(9)) == 1.0 and two_sided(np.ones(199)) == pytest.approx(0.01)


def rates(k: int, users: float, runs: float, noise: float, sims: int = 300) -> tuple[float, float]:
    """How often the bootstrap and a test over users reject a true null at the 5 % level."""
    rng = np.random.default_rng(k)
    both = alone = 0
    for sim in range(sims):
        values = crossed(rng, k, 80, users, runs, noise)
        both += two_sided(bootstrap(values, 399, sim)) <= 0.05
        alone += stats.ttest_1samp(values.mean(0), 0.0).pvalue <= 0.05
    return both / sims, alone / sims


@pytest.mark.parametrize(
    ("k", "users", "runs", "noise"), [(3, 0.5, 0.15, 1.0), (5, 1.0, 0.1, 0.5), (3, 0.0, 0.2, 0.5)]
)
def test_the_level_holds_where_a_test_over_users_fails(k, users, runs, noise) -> None:
    both, alone = rates(k, users, runs, noise)
    assert 0.01 <= both <= 0.05 + 3 * sqrt(0.05 * 0.95 / 300)
    assert alone > both + 0.03


def test_two_seeds_of_one_method_are_not_two_methods() -> None:
    """A hit of a user depends on the user, and a little on the luck of the whole run."""
    rng = np.random.default_rng(0)
    by_user, by_both, sims = 0, 0, 150
    for sim in range(sims):
        chance = rng.beta(1, 3, 600)
        runs = chance + 0.03 * rng.standard_normal((2, 3, 1))
        hits = (rng.random((2, 3, 600)) < runs).astype(float)
        by_user += stats.ttest_rel(hits[0].mean(0), hits[1].mean(0)).pvalue <= 0.01
        by_both += two_sided(bootstrap(hits[1] - hits[0], 799, sim)) <= 0.01
    assert by_user / sims > 0.05  # five times its level and more
    assert by_both / sims <= 0.01 + 3 * sqrt(0.01 * 0.99 / sims)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(3, 5), st.sampled_from([0.0, 0.02, 0.3]))
def test_never_narrower_than_either_alone(seed: int, k: int, runs: float) -> None:
    values = crossed(np.random.default_rng(seed), k, 100, 0.3, runs, 1.0)
    low, high = percentiles(bootstrap(values, 4_000, seed))
    for sample in (values.mean(0), values.mean(1)):
        half = stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / sqrt(len(sample))
        assert high - low > 0.8 * 2 * half  # ends of 4,000 replicates vary by 5 %


def test_what_differs_is_found() -> None:
    rng = np.random.default_rng(5)
    values = 0.05 + crossed(rng, 5, 1_000, 0.3, 0.005, 0.3)
    found = bootstrap(values, 1_999)
    low, high = percentiles(found)
    assert two_sided(found) < 0.01 and 0 < low < 0.05 < high
