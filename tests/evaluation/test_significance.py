from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.evaluation import PerUser, compare
from pyg_kd.evaluation.significance import holm


def draws(n: int, *means: float) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    user = rng.random(n)
    return [torch.from_numpy(user + mean + 0.1 * rng.standard_normal(n)) for mean in means]


def test_difference_and_t_statistic_by_hand() -> None:
    base, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 5.0])
    found = compare(base, {"other": other})["other"]
    assert found.difference == pytest.approx(1.0)
    # Differences 1, 0, 2: mean 1, standard error 1 / sqrt(3); t = sqrt(3) with 2 degrees of
    # freedom, whose distribution is 1/2 + t / (2 sqrt(2 + t^2)); its 97.5 % point is 4.302653.
    t = sqrt(3)
    assert found.p_value == pytest.approx(1 - t / sqrt(2 + t * t), rel=1e-9)
    assert found.interval == pytest.approx((1 - 4.302653 / t, 1 + 4.302653 / t), rel=1e-6)
    assert found.adjusted == found.p_value


def test_under_the_null_p_is_uniform() -> None:
    rng = np.random.default_rng(1)
    base = torch.from_numpy(rng.random(50))
    noise = {str(i): base + torch.from_numpy(rng.standard_normal(50)) for i in range(1_000)}
    p = np.array([c.p_value for c in compare(base, noise).values()])
    for level in (0.05, 0.25, 0.5, 0.9):
        sigma = sqrt(level * (1 - level) / len(p))
        assert abs((p < level).mean() - level) < 4 * sigma
    # And Holm keeps the chance of any false alarm at the level: here none.
    assert min(c.adjusted for c in compare(base, noise).values()) > 0.05


def test_what_is_better_is_found_and_what_is_not_is_not() -> None:
    base, better, same = draws(400, 0.0, 0.05, 0.0)
    found = compare(base, {"better": better, "same": same})
    assert found["better"].adjusted < 1e-3 and found["better"].interval[0] > 0
    low, high = found["same"].interval
    assert found["same"].adjusted > 0.05 and low < 0 < high


def test_nothing_differs() -> None:
    base = torch.rand(5)
    assert compare(base, {"itself": base.clone()})["itself"] == (0.0, (0.0, 0.0), 1.0, 1.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_stepping_down_rejects(p: list[float]) -> None:
    adjusted = holm(p)
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for place, index in enumerate(np.argsort(p, kind="stable")):
            if (len(p) - place) * p[index] > level:
                break
            rejected.add(int(index))
        assert {i for i, q in enumerate(adjusted) if q <= level} == rejected


@pytest.mark.parametrize(
    ("base", "other", "message"),
    [
        ([1.0], [1.0], r"'baseline' must hold two users or more \(got shape \[1\]\)"),
        ([1.0, 2.0], [1.0] * 3, r"'x' must be of shape \[2\] \(got \[3\]\)"),
        ([1.0, 2.0], [1.0, float("nan")], r"'x' must be finite \(got nan\)"),
    ],
)
def test_refused(base: list[float], other: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(torch.tensor(base), {"x": torch.tensor(other)})


def test_values_are_tensors() -> None:
    with pytest.raises(TypeError, match=r"'better' must be what evaluate.*\(got dict\)"):
        compare(torch.ones(3), {"better": {"recall@20": torch.ones(3)}})


def run_of(seed: int, users: int = 30) -> PerUser:
    generator = torch.Generator().manual_seed(seed)
    values = {name: torch.rand(users, generator=generator) for name in ("recall@5", "ndcg@5")}
    return PerUser({}, values, torch.arange(users))


def test_runs_of_several_seeds() -> None:
    alone, better = [run_of(0), run_of(1)], [run_of(2), run_of(3), run_of(4)]
    found = compare(alone, {"better": better}, metric="ndcg@5")["better"]
    means = [torch.stack([r.values["ndcg@5"] for r in runs]).mean(0) for runs in (alone, better)]
    expected = compare(means[0], {"better": means[1]})["better"]
    assert found.difference == pytest.approx(expected.difference, rel=1e-6) and found.difference
    assert found.interval == pytest.approx(expected.interval, rel=1e-6)
    assert found.p_value == pytest.approx(expected.p_value, rel=1e-6)
    one = compare(alone[0], {"better": better[0].values["ndcg@5"]}, metric="ndcg@5")["better"]
    tensors = [run.values["ndcg@5"] for run in (alone[0], better[0])]
    assert one == compare(tensors[0], {"better": [tensors[1]]})["better"]


def test_runs_that_do_not_fit() -> None:
    run, others = run_of(0), run_of(1)._replace(user=torch.arange(1, 31))
    for metric in (None, "map@5"):
        with pytest.raises(ValueError, match=rf"'metric' must be one of .*\(got {metric!r}\)"):
            compare(run, {"x": run_of(1)}, metric=metric)
    with pytest.raises(ValueError, match=r"'x' must be of the users of 'baseline'"):
        compare(run, {"x": others}, metric="ndcg@5")
    with pytest.raises(ValueError, match=r"'x' must hold a run or more \(got \[\]\)"):
        compare(run, {"x": []}, metric="ndcg@5")
