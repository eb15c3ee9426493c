"""Tests over users, over seeds, and over both; and intervals of means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from pyg_kd.evaluation import PerUser, compare, compare_runs, gap_closed, holm, mean_intervals


def runs(k: int, mean: float = 0.0, seed: int = 0, n: int = 60) -> dict[int, torch.Tensor]:
    rng = np.random.default_rng(seed)
    user = np.random.default_rng(99).random(n)
    luck = 0.02 * rng.standard_normal((k, 1))
    return dict(enumerate(torch.from_numpy(user + mean + luck + 0.2 * rng.standard_normal((k, n)))))


def test_users_and_seeds_are_paired_t_tests_adjusted_by_holm() -> None:
    alone = runs(4)
    methods = {"a": runs(4, 0.03, 1), "b": runs(4, 0.1, 2)}
    found = compare_runs(alone, methods)
    base = np.stack([alone[s].numpy() for s in range(4)])
    p_users, p_seeds = [], []
    for name, of in methods.items():
        other = np.stack([of[s].numpy() for s in range(4)])
        over_seeds = stats.ttest_rel(other.mean(1), base.mean(1))
        p_users.append(stats.ttest_rel(other.mean(0), base.mean(0)).pvalue)
        p_seeds.append(over_seeds.pvalue)
        assert found[name].seeds.interval == pytest.approx(over_seeds.confidence_interval(0.95))
        assert found[name].seeds.difference == pytest.approx((other - base).mean())
    assert [found[n].users.p_value for n in methods] == pytest.approx(p_users)
    assert [found[n].users.adjusted for n in methods] == pytest.approx(holm(p_users))
    assert [found[n].seeds.adjusted for n in methods] == pytest.approx(holm(p_seeds))
    both = [found[n].both for n in methods]
    assert [b.adjusted for b in both] == pytest.approx(holm([b.p_value for b in both]))
    lists = {name: list(of.values()) for name, of in methods.items()}
    assert {n: f.users for n, f in found.items()} == compare(list(alone.values()), lists)


def test_both_is_wider_than_either() -> None:
    found = compare_runs(runs(5), {"x": runs(5, 0.05, 3)}, num_replicates=4_000)["x"]
    width = {
        name: test.interval[1] - test.interval[0]
        for name, test in (("users", found.users), ("seeds", found.seeds), ("both", found.both))
    }
    assert width["both"] > 0.97 * width["seeds"] and width["both"] > 0.9 * width["users"]
    assert found.both.difference == pytest.approx(found.users.difference)


def test_few_seeds_are_said_to_be_few() -> None:
    alone = runs(5)
    methods = {str(k): dict(list(runs(5, 0.1, k).items())[:k]) for k in (1, 2, 3, 5)}
    found = compare_runs(alone, methods, num_replicates=500)
    assert [f.num_seeds for f in found.values()] == [1, 2, 3, 5]
    assert [f.seeds is None for f in found.values()] == [True, True, False, False]
    assert [f.both is None for f in found.values()] == [True, False, False, False]
    assert found["1"].note.startswith("One seed") and found["3"].note.startswith("3 seeds")
    assert found["5"].note == ""


def test_one_run_stands_beside_all_seeds() -> None:
    teacher, student = runs(1, 0.2)[0], runs(3, 0.1, 4)
    found = compare_runs(teacher, {"x": student}, num_replicates=500)["x"]
    repeated = compare_runs(dict.fromkeys(range(3), teacher), {"x": student}, num_replicates=500)
    assert found == repeated["x"] and found.num_seeds == 3


def test_nothing_differs() -> None:
    alone = runs(3)
    found = compare_runs(alone, {"x": alone}, num_replicates=200)["x"]
    assert found.users == found.seeds == (0.0, (0.0, 0.0), 1.0, 1.0)
    assert found.both.p_value == 1.0 and found.both.interval == pytest.approx((0, 0), abs=1e-12)
    assert compare_runs(alone, {}) == {}


def test_runs_of_evaluate() -> None:
    user = torch.arange(60)
    alone, other = (
        {s: PerUser({}, {"ndcg@5": v, "recall@5": v + 1}, user) for s, v in runs(3, m, q).items()}
        for m, q in ((0.0, 0), (0.1, 1))
    )
    found = compare_runs(alone, {"x": other}, "ndcg@5", num_replicates=200)["x"]
    plain = compare_runs(runs(3), {"x": runs(3, 0.1, 1)}, num_replicates=200)["x"]
    assert found == plain
    others = {s: run._replace(user=user + 1) for s, run in other.items()}
    with pytest.raises(ValueError, match=r"'x' must be of the users of 'baseline'"):
        compare_runs(alone, {"x": others}, "ndcg@5")


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"'x' must have a seed of 'baseline', one of \[0\] \(got"):
        compare_runs({0: torch.ones(3)}, {"x": {1: torch.ones(3)}})
    with pytest.raises(ValueError, match=r"'num_replicates' must be a positive integer \(got 0\)"):
        compare_runs(runs(2), {"x": runs(2)}, num_replicates=0)
    with pytest.raises(ValueError, match=r"'b' must be of shape \[60\] \(got \[3\]\)"):
        mean_intervals({"a": runs(2), "b": {0: torch.ones(3)}})


def test_runs_come_by_seed() -> None:
    by_seed = runs(2)
    listed = list(by_seed.values())
    for baseline, given, name in (
        (by_seed, listed, "x"), (listed, by_seed, "baseline"), (listed[0], listed, "x"),
        (by_seed, listed[0], "x"),
    ):  # fmt: skip
        kind = "Tensor" if given is listed[0] else "list"
        with pytest.raises(TypeError, match=rf"'{name}' must be runs by seed.* \(got {kind}\)"):
            compare_runs(baseline, {"x": given})
    with pytest.raises(TypeError, match=r"'a' must be runs by seed.* \(got list\)"):
        mean_intervals({"a": listed})
    for method, alone, teacher, name in (
        (listed, by_seed, by_seed, "x"),
        (by_seed, listed, by_seed, "alone"),
        (by_seed, by_seed, listed, "teacher"),
    ):
        with pytest.raises(TypeError, match=rf"'{name}' must be runs by seed"):
            gap_closed({"x": method}, alone, teacher)


def test_means_of_users_and_seeds() -> None:
    values = runs(5, seed=8)
    found = mean_intervals({"x": values, "one": {0: values[0]}})
    table = np.stack([v.numpy() for v in values.values()])
    assert found["x"].mean == pytest.approx(table.mean())
    assert found["x"].deviation == pytest.approx(table.mean(1).std(ddof=1))
    assert found["one"].deviation is None and found["one"].num_seeds == 1
    expected = stats.t.interval(0.95, 59, table[0].mean(), table[0].std(ddof=1) / np.sqrt(60))
    assert found["one"].interval == pytest.approx(expected, abs=0.01)
    assert found["x"].interval[0] < table.mean() < found["x"].interval[1]
    assert mean_intervals({}) == {}
