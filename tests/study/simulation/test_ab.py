from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pyg_kd.study.simulation import Ratio, ab_test
from pyg_kd.study.simulation.ab import Results, ab_tests

RUNS = 1_000


def test_without_a_covariate_it_is_welchs_test() -> None:
    rng = np.random.default_rng(0)
    control, treatment = rng.poisson(2.0, 70), rng.normal(2.5, 3.0, 200)
    wanted = stats.ttest_ind(treatment, control, equal_var=False)
    interval = wanted.confidence_interval(0.9)
    with pytest.warns(UserWarning, match="200 of 270 users are in the treatment, where 50% were"):
        found = ab_test(torch.from_numpy(control), treatment, confidence=0.9)
    assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-9)
    assert found.freedom == pytest.approx(wanted.df)
    assert found.interval == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(treatment.mean() - control.mean())
    assert found.lift == pytest.approx(treatment.mean() / control.mean() - 1)
    assert found.users == (70, 200) and found.variance_reduction == 0


def test_covariate_removes_what_a_regression_removes() -> None:
    # Theta is the common slope of two lines, one an arm: ordinary least squares.
    rng = np.random.default_rng(1)
    x = [rng.normal(0.0, 2.0, 50), rng.normal(0.3, 2.0, 60)]
    y = [1 + 0.7 * x[0] + rng.normal(0, 1, 50), 1.5 + 0.7 * x[1] + rng.normal(0, 1, 60)]
    design = np.zeros((110, 3))
    design[:50, 0], design[50:, 1], design[:, 2] = 1, 1, np.concatenate(x)
    first, second, _ = np.linalg.lstsq(design, np.concatenate(y), rcond=None)[0]
    found = ab_test(*y, covariate=(x[0], x[1]))
    assert found.difference == pytest.approx(second - first)
    plain = ab_test(*y)
    assert 1 - found.variance_reduction == pytest.approx(
        (found.standard_error / plain.standard_error) ** 2
    )
    assert found.variance_reduction == pytest.approx(0.66, abs=0.1)  # 0.7**2 * 4 / (that + 1)


def test_ratio_has_the_variance_of_the_delta_method() -> None:
    rng = np.random.default_rng(2)
    shown = [rng.integers(1, 9, 40), rng.integers(1, 9, 30)]
    clicked = [rng.binomial(shown[0], 0.3), rng.binomial(shown[1], 0.4)]
    variance = 0.0
    for n, d in zip(clicked, shown, strict=True):
        c = np.cov(n, d)
        r = n.mean() / d.mean()
        variance += (c[0, 0] - 2 * r * c[0, 1] + r * r * c[1, 1]) / d.mean() ** 2 / len(n)
    found = ab_test(Ratio(clicked[0], shown[0]), Ratio(clicked[1], shown[1]))
    assert found.standard_error == pytest.approx(sqrt(variance), rel=1e-9)
    assert found.control == pytest.approx(clicked[0].sum() / shown[0].sum())
    plain = ab_test(clicked[0] * 1.0, clicked[1])
    same = ab_test(Ratio(clicked[0], np.ones(40)), Ratio(clicked[1], np.ones(30)))
    assert same.interval == pytest.approx(plain.interval)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 3))
def test_swapping_the_arms_swaps_the_sign(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=m)
    x = rng.normal(size=n), rng.normal(size=m)
    one = ab_test(a, b, covariate=x, share=None)
    other = ab_test(b, a, covariate=x[::-1], share=None)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_nothing_varies() -> None:
    same = ab_test([1.0, 1.0], [1.0, 1.0], covariate=([2.0, 2.0], [2.0, 2.0]))
    assert (same.difference, same.interval, same.p_value) == (0.0, (0.0, 0.0), 1.0)
    other = ab_test([1.0, 1.0], [2.0, 2.0])
    assert (other.difference, other.p_value, other.lift) == (1.0, 0.0, 1.0)


def tempers(rng: np.random.Generator, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """How often users come, and how readily they click: who comes often clicks more readily."""
    eager = rng.gamma(2.0, 0.5, size)
    return eager, 0.05 + 0.1 * eager / (1 + eager) + 0.5 * rng.beta(1.0, 4.0, size)


def users(rng: np.random.Generator, lift: float) -> dict[str, np.ndarray]:
    """Two groups of 150 users in many runs: visits before and during, clicks on both."""
    eager, chance = tempers(rng, (RUNS, 300))
    visits = [1 + rng.poisson(2 * eager) for _ in range(2)]
    raised = chance * np.where(np.arange(300) < 150, 1.0, 1 + lift)
    clicks = [rng.binomial(visits[0], chance), rng.binomial(visits[1], raised)]
    return {"visits before": visits[0], "visits": visits[1], "before": clicks[0], "now": clicks[1]}


def results_of(found: dict[str, np.ndarray], kind: str) -> Results:
    part = [{name: value[:, rows] for name, value in found.items()} for rows in HALVES]
    if kind == "ratio":
        return ab_tests(*(Ratio(p["now"], p["visits"]) for p in part))
    if kind == "ratio, CUPED":
        before = [Ratio(p["before"], p["visits before"]) for p in part]
        now = [Ratio(p["now"], p["visits"]) for p in part]
        return ab_tests(*now, covariate=(before[0], before[1]))
    before_ = (part[0]["before"], part[1]["before"]) if kind == "CUPED" else None
    return ab_tests(part[0]["now"], part[1]["now"], covariate=before_)


HALVES = (slice(0, 150), slice(150, 300))
KINDS = ("mean", "CUPED", "ratio", "ratio, CUPED")


@pytest.mark.parametrize("kind", KINDS)
def test_users_treated_alike_differ_in_one_test_of_twenty(kind: str) -> None:
    p = results_of(users(np.random.default_rng(3), 0.0), kind).p_value
    assert abs((p < 0.05).mean() - 0.05) <= 0.015
    assert stats.kstest(p, "uniform").pvalue > 0.001


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_lift_lies_in_its_interval(kind: str) -> None:
    rng = np.random.default_rng(4)
    lift = 0.2
    # The truth is that of the population, by a large sample of it.
    eager, chance = tempers(np.random.default_rng(5), (4_000_000,))
    visits = 1 + 2 * eager
    control = (chance * visits).mean() / (visits.mean() if "ratio" in kind else 1)
    found = results_of(users(rng, lift), kind)
    inside = (found.low <= lift * control) & (lift * control <= found.high)
    assert 0.93 <= inside.mean() <= 0.97
    inside = (found.lift_low <= lift) & (lift <= found.lift_high)
    assert 0.93 <= inside.mean() <= 0.97
    if "CUPED" in kind:
        assert found.variance_reduction.mean() > 0.02


def test_visits_taken_for_independent_find_too_much() -> None:
    # Why the user is the unit: the same clicks with every visit as a unit of its own.
    rng = np.random.default_rng(6)
    found = users(rng, 0.0)
    alarms = 0
    chance = rng.beta(0.5, 2.0, (200, 300))
    for run in range(200):
        visits = 5 * found["visits"][run]
        clicks = rng.binomial(visits, chance[run])
        shown, hit = visits.reshape(2, -1).sum(1), clicks.reshape(2, -1).sum(1)
        share = hit.sum() / shown.sum()
        error = sqrt(share * (1 - share) * (1 / shown[0] + 1 / shown[1]))
        alarms += abs(hit[1] / shown[1] - hit[0] / shown[0]) > 1.96 * error
    assert alarms > 0.3 * 200


def test_bad_input() -> None:
    good = [1.0, 2.0]
    for arguments, message in (
        (([1.0], good), "'control' must hold two users or more (got shape [1])"),
        ((good, [1.0, np.nan]), "'treatment' must be finite (got nan)"),
        ((good, Ratio(good, good)), "'treatment' must be a Ratio if and only if 'control' is one"),
        (
            (Ratio(good, [0, 0]), Ratio(good, good)),
            "'control' must have denominators of 0 or more, and not all 0 (got 0.0)",
        ),
        (
            (Ratio(good, [1, 2, 3]), Ratio(good, good)),
            "'control' must have a denominator for each numerator (got [2] and [3])",
        ),
        ((np.ones((2, 2)), good), "a metric must have one value a user, [n] (got shape [2, 2])"),
    ):
        with pytest.raises(ValueError) as error:
            ab_test(*arguments)
        assert str(error.value) == message
    with pytest.raises(TypeError, match="'control' must be numbers, one a user"):
        ab_test(["a", "b"], good)
    with pytest.raises(ValueError, match="'covariate' must have a value for each user of 'treatm"):
        ab_test(good, good, covariate=(good, [1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"'confidence' must lie between 0 and 1 \(got 95\)"):
        ab_test(good, good, confidence=95)
