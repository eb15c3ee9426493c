"""The gap that a method closes, and its interval."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pyg_kd.evaluation import gap_closed
from pyg_kd.evaluation.closed_gap import ratio_percentiles


def by_seed(values: np.ndarray) -> dict[int, torch.Tensor]:
    return dict(enumerate(torch.from_numpy(np.ascontiguousarray(values))))


def fieller(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float]:
    """The roots of (N - r T)^2 = t^2 var(N - r T)."""
    n, t = len(top), stats.t.ppf(0.975, len(top) - 1)
    vn, vt, cov = (np.cov(top, bottom)[i] * t * t / n for i in ((0, 0), (1, 1), (0, 1)))
    a, b, c = bottom.mean() ** 2 - vt, top.mean() * bottom.mean() - cov, top.mean() ** 2 - vn
    assert a > 0
    return (b - sqrt(b * b - a * c)) / a, (b + sqrt(b * b - a * c)) / a


def test_one_seed_is_fieller_s_interval() -> None:
    rng = np.random.default_rng(0)
    alone = rng.random(500)
    teacher = alone + 0.1 + 0.2 * rng.standard_normal(500)
    student = alone + 0.06 + 0.2 * rng.standard_normal(500)
    found = gap_closed(
        {"x": by_seed(student[None])}, by_seed(alone[None]), torch.from_numpy(teacher)
    )["x"]
    gaps = student - alone, teacher - alone
    assert found.value == pytest.approx(gaps[0].mean() / gaps[1].mean())
    assert found.interval == pytest.approx(fieller(*gaps), rel=0.03)
    assert found.num_seeds == 1


def draw(rng, true: float, k: int = 3, n: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    user = rng.random(n)
    means = (0.0, true * 0.1, 0.1)
    return tuple(
        user
        + mean
        + 0.1 * rng.standard_normal(n)  # what the method does for a user, whatever the seed
        + 0.005 * rng.standard_normal((k, 1))
        + 0.1 * rng.standard_normal((k, n))
        for mean in means
    )


def test_the_interval_covers_the_truth() -> None:
    rng, hits, sims = np.random.default_rng(1), 0, 200
    for sim in range(sims):
        alone, student, teacher = map(by_seed, draw(rng, 0.7))
        found = gap_closed({"x": student}, alone, teacher, num_replicates=399, seed=sim)["x"]
        hits += found.interval[0] <= 0.7 <= found.interval[1]
    assert 0.95 - 3 * sqrt(0.95 * 0.05 / sims) <= hits / sims <= 0.995


def test_all_methods_share_draws() -> None:
    alone, student, teacher = map(by_seed, draw(np.random.default_rng(2), 0.5))
    found = gap_closed({"a": student, "b": student, "itself": teacher}, alone, teacher)
    assert found["a"] == found["b"]
    assert found["itself"].value == pytest.approx(1.0)
    assert found["itself"].interval == pytest.approx((1.0, 1.0))
    assert gap_closed({}, alone, teacher) == {}


def test_only_common_seeds_count() -> None:
    alone, student, teacher = map(by_seed, draw(np.random.default_rng(3), 0.5))
    del student[0]
    found = gap_closed({"x": student}, alone, teacher)["x"]
    gaps = [
        (x[1].mean() + x[2].mean() - alone[1].mean() - alone[2].mean()) for x in (student, teacher)
    ]
    assert found.num_seeds == 2 and found.value == pytest.approx(float(gaps[0] / gaps[1]))


def test_a_gap_that_may_not_be_there_has_no_interval() -> None:
    rng = np.random.default_rng(4)
    alone = rng.random(30)
    teacher = alone + 0.02 + 0.2 * (noise := rng.standard_normal(30)) - 0.2 * noise.mean()
    found = gap_closed({"x": by_seed(teacher[None])}, by_seed(alone[None]), by_seed(teacher[None]))
    assert found["x"].interval == (-inf, inf)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_the_set_is_that_of_a_scan_over_shares(seed: int) -> None:
    """Where some denominators are negative: shares r at which N - r T is on both sides of 0."""
    rng = np.random.default_rng(seed)
    means = rng.multivariate_normal([1.0, 1.5], [[0.3, 0.1], [0.1, 0.3]], 200)
    low, high = ratio_percentiles(means)
    negative = (means[:, 1] <= 0).mean()
    if negative > 0.025:
        assert (low, high) == (-inf, inf)
        return
    shares = np.linspace(-30, 60, 9_001)
    below = (means[:, :1] - means[:, 1:] * shares <= 0).mean(0)
    inside = shares[(below > 0.026) & (below < 0.974)]
    assert low <= inside.min() + 0.01 and inside.max() - 0.01 <= high
    outside = shares[(below < 0.02) | (below > 0.98)]
    between = (outside > low + 0.02) & (outside < high - 0.02)
    assert not between.any()


def test_refused() -> None:
    alone, student, teacher = map(by_seed, draw(np.random.default_rng(5), 0.5))
    with pytest.raises(ValueError, match=r"'teacher' must be above the student alone.*\(got "):
        gap_closed({"x": student}, teacher, alone)
    with pytest.raises(ValueError, match=r"must share a seed \(got \[7\]\)"):
        gap_closed({"x": {7: student[0]}}, alone, teacher)
    with pytest.raises(ValueError, match=r"'num_replicates' must be a positive.*\(got 0\)"):
        gap_closed({"x": student}, alone, teacher, num_replicates=0)
