from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd import (
    DistillationExperts,
    RelaxedRankingDistillation,
    SoftLabel,
    UnbiasedDistillation,
    distill,
)
from pyg_kd.study.tuning import Range, ranges
from pyg_kd.study.tuning.space import default_of, with_setting

positive = st.floats(1e-6, 1e6)


@given(positive, st.floats(1.5, 100), st.floats(0, 1))
def test_places(low: float, factor: float, share: float) -> None:
    high = low * factor
    found = Range(low, low, high)
    number = math.exp(math.log(low) + share * math.log(factor))
    assert found.place(number) == pytest.approx(share, abs=1e-6)
    assert (
        found.at_edge(number) == (share < 0.02 or share > 0.98)
        or share == pytest.approx(0.02, abs=1e-6)
        or share == pytest.approx(0.98, abs=1e-6)
    )
    assert found.value(number) == pytest.approx(number, rel=6e-3)


def test_decay_may_be_none() -> None:
    space = ranges([], lr=0.01, weight_decay=0.0, base_weight=1.0)
    decay = space["weight_decay"]
    assert default_of(space) == {"lr": 0.01, "weight_decay": 0.0}
    assert decay.first == decay.low and decay.value(decay.low) == 0.0
    assert not decay.at_edge(decay.low) and decay.at_edge(decay.high)
    assert decay.value(1e-3) == 1e-3
    large = ranges([], lr=0.01, weight_decay=0.05, base_weight=1.0)["weight_decay"]
    assert large.low < 0.05 < large.high == 0.5


def test_several_numbers_are_scaled_together() -> None:
    method = SoftLabel(temperature=(8.0, 40.0), mixture=(0.3, 0.7))
    space = ranges([(method, 1.0)], lr=0.01, weight_decay=0.0, base_weight=0.0)
    found = space["SoftLabel.temperature"]
    assert (found.low, found.high, found.first) == (2.0, 32.0, 8.0)
    assert found.value(4.0) == [4.0, 20.0]
    made, weight = with_setting([(method, 1.0)], {"SoftLabel.temperature": [4.0, 20.0]})[0]
    assert made.temperature == (4.0, 20.0) and made.mixture == (0.3, 0.7) and weight == 1.0
    assert method.temperature == (8.0, 40.0)


def test_weights_that_mean_something() -> None:
    soft, experts = SoftLabel(), DistillationExperts()
    alone = ranges([(soft, 1.0)], lr=0.01, weight_decay=0.0, base_weight=0.0)
    assert "SoftLabel.weight" not in alone
    beside = ranges([(soft, 1.0)], lr=0.01, weight_decay=0.0, base_weight=1.0)
    assert beside["SoftLabel.weight"].first == 1.0
    # Of two without a base loss one is the measure of the other.
    two = ranges([(soft, 1.0), (experts, 0.1)], lr=0.01, weight_decay=0.0, base_weight=0.0)
    assert [n for n in two if n.endswith("weight")] == ["DistillationExperts.weight"]


def test_options_that_methods_declare() -> None:
    for method, names in (
        (SoftLabel(), ["SoftLabel.temperature"]),
        (SoftLabel(target="score"), ["SoftLabel.temperature_score"]),
        (RelaxedRankingDistillation(), ["RelaxedRankingDistillation.scale"]),
        (UnbiasedDistillation(), ["UnbiasedDistillation.temperature"]),
        (DistillationExperts(), []),
    ):
        found = ranges([(method, 1.0)], lr=0.01, weight_decay=0.0, base_weight=0.0)
        assert [*found][2:] == names


def test_every_declared_option_exists() -> None:
    for name in distill.__all__:
        kind = getattr(distill, name)
        if kind is distill.Distillation:
            continue
        method = kind()
        for option in method.tunes:
            value = getattr(method, option)
            assert all(v > 0 for v in (value if isinstance(value, tuple) else (value,)))
            (again, _) = with_setting([(method, 1.0)], {f"{name}.{option}": 2.5})[0]
            assert getattr(again, option) == 2.5


def test_the_same_method_twice() -> None:
    one, other = SoftLabel(temperature=5.0), SoftLabel(temperature=50.0)
    methods = [(one, 1.0), (other, 2.0)]
    space = ranges(methods, lr=0.01, weight_decay=0.0, base_weight=1.0)
    assert space["SoftLabel 2.temperature"].default == 50.0
    changed = with_setting(methods, {"SoftLabel 2.temperature": 60.0, "SoftLabel.weight": 3.0})
    assert [(m.temperature, w) for m, w in changed] == [(5.0, 3.0), (60.0, 2.0)]


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, math.inf)])
def test_ranges_go_up(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="must go up from above 0"):
        Range(1.0, low, high)
