from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from pyg_kd.study.ablation import ablate

NAMES = ["DE", "RRD", "schedule"]


def subsets(names):
    return [frozenset(c) for n in range(len(names) + 1) for c in combinations(names, n)]


def random_rows(names, num_seeds=3, num_users=40, seed=0):
    rng = np.random.default_rng(seed)
    return {
        subset: {s: torch.from_numpy(rng.random(num_users)) for s in range(num_seeds)}
        for subset in subsets(names)
    }


def mean(row) -> float:
    return float(np.mean([values.double().numpy() for values in row.values()]))


def test_against_all_orders() -> None:
    rows = random_rows(NAMES)
    found = ablate(NAMES, rows, num_replicates=200)
    gains: dict[str, list[float]] = {name: [] for name in NAMES}
    for order in permutations(NAMES):
        for place, name in enumerate(order):
            before = frozenset(order[:place])
            gains[name].append(mean(rows[before | {name}]) - mean(rows[before]))
    whole = mean(rows[frozenset(NAMES)]) - mean(rows[frozenset()])
    for name in NAMES:
        assert found.shapley[name].value == pytest.approx(np.mean(gains[name]), abs=1e-12)
        assert found.shapley[name].share == pytest.approx(np.mean(gains[name]) / whole, abs=1e-9)
        rest = mean(rows[frozenset(NAMES) - {name}])
        kept = mean(rows[frozenset(NAMES)])
        assert found.leave_one_out[name].value == pytest.approx(kept - rest, abs=1e-12)
        alone = mean(rows[frozenset({name})]) - mean(rows[frozenset()])
        assert found.add_one_in[name].value == pytest.approx(alone, abs=1e-12)
    assert found.total.value == pytest.approx(whole, abs=1e-12)
    assert sum(e.value for e in found.shapley.values()) == pytest.approx(whole, abs=1e-12)
    assert sum(e.share or 0 for e in found.shapley.values()) == pytest.approx(1, abs=1e-9)
    for subset, row in rows.items():
        assert found.subsets[subset].value == pytest.approx(mean(row), abs=1e-12)
        low, high = found.subsets[subset].interval
        assert low < mean(row) < high
    assert (found.num_seeds, found.num_users) == (3, 40)
    assert [*found.interactions] == [*combinations(NAMES, 2)]


def test_components_that_add_up_do_not_interact() -> None:
    rng = np.random.default_rng(0)
    gain = dict(zip(NAMES, (0.3, 0.2, -0.1), strict=True))
    base = {s: rng.random(30) for s in range(3)}
    rows = {
        subset: {s: torch.from_numpy(v + sum(gain[n] for n in subset)) for s, v in base.items()}
        for subset in subsets(NAMES)
    }
    found = ablate(NAMES, rows, num_replicates=100)
    for name, by in gain.items():
        for effect in (found.shapley[name], found.leave_one_out[name], found.add_one_in[name]):
            # The users and seeds of all rows are the same: nothing of a difference varies.
            assert (effect.value, *effect.interval) == pytest.approx([by] * 3, abs=1e-12)
            assert effect.share == pytest.approx(by / 0.4)
    for effect in found.interactions.values():
        assert (effect.value, *effect.interval) == pytest.approx([0] * 3, abs=1e-12)


def test_controls() -> None:
    rows = random_rows(["DE"])
    shuffled = {s: values + 0.1 for s, values in rows[frozenset()].items()}
    rows[frozenset({"DE"})] = {s: values + 0.4 for s, values in rows[frozenset()].items()}
    found = ablate(["DE"], rows, controls={"shuffled": shuffled}, num_replicates=100)
    effect = found.controls["shuffled"]
    assert (effect.value, *effect.interval) == pytest.approx([0.1] * 3, abs=1e-12)
    assert (effect.share, *effect.share_interval) == pytest.approx([0.25] * 3, abs=1e-9)


def test_no_gain_has_no_shares() -> None:
    row = {0: torch.rand(20), 1: torch.rand(20)}
    found = ablate(["DE"], {frozenset(): row, frozenset({"DE"}): row}, num_replicates=50)
    assert found.total.value == 0 and found.shapley["DE"].share is None


def test_share_of_an_uncertain_gain_is_unbounded() -> None:
    rng = np.random.default_rng(3)
    rows = {
        subset: {s: torch.from_numpy(rng.normal(size=50)) for s in range(3)}
        for subset in subsets(["DE", "RRD"])
    }
    found = ablate(["DE", "RRD"], rows, num_replicates=400)
    low, high = found.total.interval
    assert low < 0 < high
    assert found.shapley["DE"].share_interval == (-np.inf, np.inf)


def test_seeds_that_all_rows_have_count() -> None:
    rows = random_rows(["DE"])
    rows[frozenset({"DE"})].pop(1)
    rows[frozenset()][7] = torch.full((40,), torch.nan)
    found = ablate(["DE"], rows, num_replicates=10)
    kept = {s: v for s, v in rows[frozenset()].items() if s in (0, 2)}
    assert found.num_seeds == 2
    assert found.subsets[frozenset()].value == pytest.approx(mean(kept))


def test_intervals_cover_what_is_true() -> None:
    """Other users and other seeds, 400 times: shares are within their 95 % intervals."""
    rng, hits, tries = np.random.default_rng(0), np.zeros(3), 400
    true = {"": 0.0, "a": 0.6, "b": 0.3, "ab": 1.0}
    for trial in range(tries):
        user = {key: rng.normal(size=60) for key in true}
        run = {key: 0.2 * rng.normal(size=4) for key in true}
        rows = {
            frozenset(key): {
                s: torch.from_numpy(value + user[key] * 0.5 + run[key][s] + rng.normal(size=60))
                for s in range(4)
            }
            for key, value in true.items()
        }
        found = ablate(["a", "b"], rows, num_replicates=400, seed=trial)
        expected = [0.65, 0.35, 0.1]
        effects = [*found.shapley.values(), *found.interactions.values()]
        for place, (effect, value) in enumerate(zip(effects, expected, strict=True)):
            hits[place] += effect.interval[0] <= value <= effect.interval[1]
    # The deviation of a share of 0.95 in 400 is 0.011.
    assert (np.abs(hits / tries - 0.95) < 0.04).all(), hits / tries


def test_errors() -> None:
    rows = random_rows(["DE", "RRD"])
    with pytest.raises(ValueError, match="must be a list of different names"):
        ablate(["DE", "DE"], rows)
    with pytest.raises(ValueError, match=r"must be 1 to 5 \(got 6"):
        ablate(list("abcdef"), rows)
    with pytest.raises(ValueError, match="components that are not listed"):
        ablate(["DE"], rows)
    with pytest.raises(ValueError, match="'DE \\+ RRD' is missing, and 1 in all"):
        ablate(["DE", "RRD"], {k: v for k, v in rows.items() if len(k) < 2})
    with pytest.raises(ValueError, match="a seed in common"):
        ablate(["DE", "RRD"], {**rows, frozenset(): {9: torch.rand(40)}})
    with pytest.raises(ValueError, match=r"'DE' must be of shape \[40\]"):
        ablate(["DE", "RRD"], {**rows, frozenset({"DE"}): {s: torch.rand(39) for s in range(3)}})
    with pytest.raises(ValueError, match="must be finite"):
        bad = {s: torch.full((40,), torch.inf) for s in range(3)}
        ablate(["DE", "RRD"], rows, controls={"shuffled": bad})
