"""The protocol of 2025-26: runs are kept by their recipe, settings are chosen on validation."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CONFIG = {
    "data": "synthetic",
    "backbone": "mf",
    "metric": "ndcg@10",
    "note": "",
    "published": {},
    "seeds": [0, 1, 2],
    "teacher": {"dim": 8, "trainer": {"max_epochs": 2, "batch_size": 512}},
    "student": {"dim": 4, "trainer": {"max_epochs": 1, "batch_size": 512}},
    "methods": {
        "student alone": {"settings": [{}, {"trainer": {"weight_decay": 1e-3}}]},
        "FitNet": {"method": "HintRegression", "settings": [{"weight": 0.01}, {"weight": 0.1}]},
    },
}


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import paired
    import protocol
    import protocol_data
    import protocol_runs

    monkeypatch.setattr(protocol, "RESULTS", tmp_path)
    return SimpleNamespace(
        protocol=protocol, data=protocol_data, runs=protocol_runs, paired=paired, folder=tmp_path
    )


def compare(bench, config=CONFIG, **options):
    path = bench.folder / "small.json"
    path.write_text(json.dumps(config))
    args = Namespace(
        root=None, out=bench.folder / "out", minutes=1e6, methods=None, seeds=None, **options
    )
    return bench.protocol.compare_config(str(path), args)


def counting(bench, monkeypatch):
    """Count trainings and looks at the test targets."""
    fits, looks = [], []
    fit, evaluate = bench.runs.fit, bench.runs.evaluate

    def counted(recipe, *rest):
        fits.append(recipe)
        return fit(recipe, *rest)

    def looked(*given, **options):
        looks.append(given)
        return evaluate(*given, **options)

    monkeypatch.setattr(bench.runs, "fit", counted)
    monkeypatch.setattr(bench.runs, "evaluate", looked)
    return fits, looks


def test_only_chosen_settings_are_run_again_and_tested(bench, monkeypatch):
    fits, looks = counting(bench, monkeypatch)
    found = compare(bench)
    # Teachers of three seeds; two methods with two settings, one of them at two more seeds.
    assert len(fits) == 3 + 2 * (2 + 2)
    assert len(looks) == 3 * 3
    runs = found["runs"].values()
    assert len(runs) == len(fits) and sum("test" in run for run in runs) == len(looks)
    for row in CONFIG["methods"]:
        trials = [r for r in runs if r["row"] == row and r["seed"] == 0]
        assert len(trials) == 2
        chosen = max(trials, key=lambda run: run["validation"])
        assert [r for r in trials if "test" in r] == [chosen]
        tested = [r["test"] for r in runs if r["row"] == row and "test" in r]
        for metric in bench.protocol.SHOWN:
            values = [t[metric] for t in tested]
            assert found["rows"][row][metric] == pytest.approx(np.mean(values))
            assert found["rows"][row][f"{metric} deviation"] == pytest.approx(
                np.std(values, ddof=1)
            )
    assert "against" not in found["rows"]["student alone"]
    assert 0 <= found["rows"]["FitNet"]["against"]["student alone"]["ndcg@10"]["p seeds"] <= 1


def test_runs_that_are_kept_are_taken_over_until_their_recipe_changes(bench, monkeypatch):
    first = compare(bench)
    fits, looks = counting(bench, monkeypatch)
    again = compare(bench)
    assert fits == [] and looks == [] and again["rows"] == first["rows"]
    other = json.loads(json.dumps(CONFIG))
    other["methods"]["FitNet"]["settings"][1]["weight"] = 0.3
    other["methods"]["student alone"]["settings"][1] = {"trainer": {"weight_decay": 3e-3}}
    compare(bench, other)
    assert {(f["method"], f["weight"]) for f in fits} <= {(None, None), ("HintRegression", 0.3)}
    assert len(fits) >= 2


def test_students_learn_from_the_teacher_of_their_seed_or_from_one(bench):
    for one, teachers in ((False, 3), (True, 1)):
        config = CONFIG | {"teacher": {**CONFIG["teacher"], "one": one}}
        found = compare(bench, config)
        taught = {r["recipe"]["teacher"] for r in found["runs"].values() if r["row"] == "FitNet"}
        assert len(taught) == teachers
        assert found["rows"]["teacher"]["seeds"] == teachers


def test_without_time_nothing_is_trained(bench, monkeypatch):
    fits, _ = counting(bench, monkeypatch)
    monkeypatch.setattr(bench.protocol.Runs, "trained", lambda *a, **k: False)
    found = compare(bench)
    assert fits == [] and found["rows"] == {} and found["runs"] == {}


def test_another_split_is_refused(bench):
    found = compare(bench)
    (bench.folder / "protocol.json").write_text(json.dumps({"configs": {"small": found}}))
    compare(bench)
    found["split sha256"] = "0" * 64
    (bench.folder / "protocol.json").write_text(json.dumps({"configs": {"small": found}}))
    with pytest.raises(ValueError, match=r"split of 'small'.*digest 0000"):
        compare(bench)


def test_the_digest_tells_splits_apart(bench):
    (train, val, test), digest = bench.data.split("synthetic", None)
    assert bench.data.split("synthetic", None)[1] == digest
    assert bench.data.split("synthetic", None, seed=1)[1] != digest
    parts = [train, val, test]
    keys = ["edge_index", "edge_label_index", "edge_label_index"]
    pairs = [
        set(map(tuple, g["user", "item"][k].t().tolist())) for g, k in zip(parts, keys, strict=True)
    ]
    everything = bench.data.synthetic(None)["user", "item"].edge_index.t().tolist()
    assert set.union(*pairs) == set(map(tuple, everything))
    assert sum(map(len, pairs)) == len(everything)


def test_reviews_of_four_stars_make_the_graph_of_yelp(bench, tmp_path):
    rows = [
        {"user_id": f"u{u}", "business_id": f"b{b}", "stars": 5.0 if (u + b) % 7 else 3.0}
        for u in range(15)
        for b in range(16)
    ]
    rows.append({"user_id": "rare", "business_id": "b0", "stars": 5.0})
    path = tmp_path / "yelp_academic_dataset_review.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = bench.data.yelp(str(tmp_path))
    liked = sum(row["stars"] >= 4 for row in rows[:-1])
    assert data["user"].num_nodes == 15 and data["item"].num_nodes == 16
    assert data["user", "item"].edge_index.size(1) == liked


@pytest.mark.parametrize(
    "path", sorted((BENCHMARKS / "configs").glob("*.json")), ids=lambda p: p.stem
)
def test_every_configuration_can_be_run(bench, path):
    config = bench.protocol.read_config(path.stem)
    assert config["data"] in bench.data.GRAPHS and config["backbone"] in bench.runs.BACKBONES
    assert set(config["against"]) <= set(config["methods"]) and len(config["seeds"]) == 5
    config["items"] = 100
    import pyg_kd as kd
    from pyg_kd.training import Trainer

    for row, of in {"teacher": config["teacher"], **config["methods"]}.items():
        for setting in of.get("settings", [{}]):
            made = bench.runs.recipe(config, "digest", row, setting, 0)
            if made["method"] is not None:
                getattr(kd, made["method"])(**made["options"])
                assert made["weight"] > 0
            bench.runs.trainer_of(made)
            assert isinstance(made["dim"], int)
    assert isinstance(bench.runs.trainer_of(made), Trainer)


def test_unequal_grids_are_refused(bench, tmp_path):
    config = json.loads(json.dumps(CONFIG))
    config["methods"]["FitNet"]["settings"].pop()
    path = tmp_path / "unequal.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="equally many settings"):
        bench.protocol.read_config(str(path))


def test_both_tests_equal_their_formulas(bench):
    rng = np.random.default_rng(0)
    base = rng.random((4, 50))
    shift = {"near": 0.01, "far": 0.2}
    methods = {name: base + by + 0.1 * rng.standard_normal((4, 50)) for name, by in shift.items()}

    def by_seed(values):
        return {seed: torch.from_numpy(row) for seed, row in enumerate(values)}

    found = bench.paired.paired(by_seed(base), {n: by_seed(v) for n, v in methods.items()})
    expected = {"users": {}, "seeds": {}}
    for name, values in methods.items():
        gaps = values - base
        assert found[name]["difference"] == pytest.approx(gaps.mean())
        for which, sample in (("users", gaps.mean(0)), ("seeds", gaps.mean(1))):
            t = sample.mean() / (sample.std(ddof=1) / math.sqrt(len(sample)))
            expected[which][name] = two_sided(t, len(sample) - 1)
    for which, values in expected.items():
        first, last = sorted(values, key=values.get)
        assert found[first][f"p {which}"] == pytest.approx(min(2 * values[first], 1), rel=1e-4)
        most = max(min(2 * values[first], 1), values[last])
        assert found[last][f"p {which}"] == pytest.approx(most, rel=1e-4)


def two_sided(t, degrees):
    """The tails of Student's distribution, by adding up its density."""
    x = np.linspace(0, abs(t), 200_001)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    density = np.exp(log_scale) / math.sqrt(degrees * math.pi)
    density = density * (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    return 1 - 2 * np.trapezoid(density, x)


def test_seeds_are_compared_from_three_on_and_common_ones_alone(bench):
    rng = torch.Generator().manual_seed(0)
    base = {seed: torch.rand(20, generator=rng) for seed in range(3)}
    method = {seed: base[seed] + 0.1 * torch.rand(20, generator=rng) for seed in (1, 2)}
    found = bench.paired.paired(base, {"m": method, "none": {7: base[0]}})
    assert set(found) == {"m"} and "p seeds" not in found["m"]
    gap = np.mean([(method[s] - base[s]).mean() for s in (1, 2)])
    assert found["m"]["difference"] == pytest.approx(gap, rel=1e-5)
    same = bench.paired.paired(base, {"itself": base})["itself"]
    assert same["p seeds"] == same["p users"] == 1.0
