from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pyg_kd.study.simulation import (
    Ratio,
    aa_check,
    group_sequential_bounds,
    minimum_detectable_effect,
    peeking_error,
    power_of,
    sample_size,
    simulated_power,
)
from pyg_kd.study.simulation.power import rate_of


def test_closed_forms_agree_with_each_other_and_with_a_textbook() -> None:
    # Two arms of 63 find half a deviation with 80 % (Cohen 1988, normal approximation).
    assert sample_size(0.5, 1.0) == pytest.approx(2 * 62.8, abs=1)
    for share, deviation in ((0.5, 2.0), (0.2, (1.0, 3.0))):
        users = sample_size(0.3, deviation, power=0.9, alpha=0.01, share=share)
        options = {"alpha": 0.01, "share": share}
        assert power_of(users, 0.3, deviation, **options) == pytest.approx(0.9, abs=1e-3)
        found = minimum_detectable_effect(users, deviation, power=0.9, **options)
        assert found == pytest.approx(0.3, rel=1e-3)
    assert power_of(100, 0.0, 1.0, alpha=0.1) == pytest.approx(0.1)
    assert power_of(100, -0.4, 1.0) == power_of(100, 0.4, 1.0)


def test_simulated_power_is_that_of_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    control, treatment = rng.normal(0, 1, 20_000), rng.normal(0, 2, 20_000)
    treatment += 0.4 - treatment.mean() + control.mean()
    users = sample_size(0.4, (1.0, 2.0))
    found = simulated_power(control, treatment, users, runs=2_000)
    assert found.value == pytest.approx(0.8, abs=0.03)
    assert found.interval[0] < 0.8 < found.interval[1] + 0.01
    before = control + rng.normal(0, 0.5, 20_000), treatment + rng.normal(0, 0.5, 20_000)
    with_before = simulated_power(control, treatment, users, covariate=before, runs=200)
    assert with_before.value < found.value  # a covariate that the treatment moved hides it


def test_simulated_power_of_a_ratio() -> None:
    rng = np.random.default_rng(1)
    shown = rng.integers(1, 9, 5_000)
    control, treatment = (Ratio(rng.binomial(shown, p), shown) for p in (0.3, 0.4))
    assert simulated_power(control, treatment, 400, runs=200).value > 0.8
    assert simulated_power(control, control, 400, runs=400).value < 0.09


@pytest.mark.parametrize("size", [400, 401])
def test_aa_check_finds_five_percent(size: int) -> None:
    rng = np.random.default_rng(2)
    values = rng.poisson(rng.gamma(1.0, 2.0, size))
    assert abs(aa_check(values).value - 0.05) <= 0.015
    assert abs(aa_check(values, covariate=values + rng.poisson(2, size)).value - 0.05) <= 0.015
    assert abs(aa_check(Ratio(values, values + 1)).value - 0.05) <= 0.015


def test_aa_check_tells_where_a_test_is_not_valid() -> None:
    # One user with nearly all of the clicks: means are far from normal.
    values = np.zeros(200)
    values[0] = 1_000
    found = aa_check(values, runs=500)
    assert found.interval[1] < 0.05 or found.interval[0] > 0.05


def test_rates_have_exact_intervals() -> None:
    low, high = rate_of(5, 100).interval
    assert stats.binom.sf(4, 100, low) == pytest.approx(0.025)
    assert stats.binom.cdf(5, 100, high) == pytest.approx(0.025)


def test_peeking_by_simulation_and_by_the_published_table() -> None:
    # Armitage, McPherson and Rowe (1969), table 2.
    wanted = {1: 0.05, 2: 0.083, 3: 0.107, 4: 0.126, 5: 0.142, 10: 0.193, 20: 0.248}
    for looks, chance in wanted.items():
        assert peeking_error(looks) == pytest.approx(chance, abs=6e-4)
    steps = np.random.default_rng(3).normal(size=(100_000, 5))
    z = steps.cumsum(1) / np.sqrt(np.arange(1, 6))
    assert peeking_error(5) == pytest.approx((np.abs(z) > 1.96).any(1).mean(), abs=0.005)


def test_group_sequential_bounds_are_those_published() -> None:
    # Bounds of the spending functions for equal steps, as in Jennison and Turnbull (1999).
    assert group_sequential_bounds(4) == pytest.approx([4.333, 2.963, 2.359, 2.014], abs=1e-3)
    pocock = group_sequential_bounds(5, spending="pocock")
    assert pocock == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=1e-3)
    assert group_sequential_bounds(1) == pytest.approx([1.959964], abs=1e-6)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_bounds_keep_false_alarms_at_their_level(spending: str) -> None:
    time = [0.1, 0.5, 0.6, 1.0]
    bounds = np.array(group_sequential_bounds(time, spending=spending))
    steps = np.random.default_rng(4).normal(size=(200_000, 4)) * np.sqrt(np.diff([0, *time]))
    z = steps.cumsum(1) / np.sqrt(time)
    assert (np.abs(z) >= bounds).any(1).mean() == pytest.approx(0.05, abs=0.002)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match=r"'effect' must be positive \(got 0\)"):
        sample_size(0, 1.0)
    with pytest.raises(ValueError, match=r"'power' must lie between 0 and 1 \(got 1\)"):
        sample_size(0.1, 1.0, power=1)
    with pytest.raises(ValueError, match=r"'deviation' must be 0 or more \(got -1\)"):
        sample_size(0.1, -1)
    with pytest.raises(ValueError, match=r"'users' must be an integer of 4 or more \(got 2\)"):
        aa_check([1.0, 2.0])
    with pytest.raises(ValueError, match=r"'looks' must be shares that rise to 1 \(got \[0.5\]\)"):
        group_sequential_bounds([0.5])
    with pytest.raises(ValueError, match="'spending' must be one of"):
        group_sequential_bounds(3, spending="all")
