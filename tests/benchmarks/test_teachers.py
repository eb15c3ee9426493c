"""How the benchmark of teachers measures lists and what its section says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pyg_kd import evaluate, extract_knowledge
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import Listed, fuse
from pyg_kd.models import EASE, ItemKNN
from pyg_kd.transforms import UserSplit


@pytest.fixture
def path(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def split():
    data = SyntheticInteractions(num_users=80, num_items=60, num_edges=1_500)[0]
    return UserSplit(val=0.1, test=0.2, seed=0)(data)


def test_lists_are_measured_as_the_model_is(path, split):
    from teachers import SHOWN, measure

    train, val, test = split
    graph = extract_knowledge(EASE(train), train, num_items=60)
    for targets in (val, test):
        found = measure(graph["user"].teacher_items, train, targets, SHOWN)
        expected = evaluate(EASE(train), train, targets, k=(20, 50), metrics=("recall", "ndcg"))
        assert found == pytest.approx({name: expected[name] for name in SHOWN}, abs=1e-6)


def test_what_is_kept_is_fused(path, split, tmp_path):
    from teachers import SHOWN, ensemble, one_teacher

    args = SimpleNamespace(
        data="synthetic", lists=tmp_path, seeds=2, metric="recall@20", refit=False
    )
    rows = {name: one_teacher(name, args, split) for name in ("popularity", "EASE", "ItemKNN")}
    assert rows["EASE"]["seeds"] == 1 and rows["EASE"]["bytes"] > 4 * 60 * 60
    assert {path.stem for path in tmp_path.iterdir()} == {"synthetic-EASE-0", "synthetic-ItemKNN-0"}
    row = ensemble(args, split)
    assert [set(weights) for weights in row["weights"]] == [{"EASE", "ItemKNN"}] * 2
    assert row["val"] >= max(rows[name]["val"] for name in ("EASE", "ItemKNN"))
    assert all(0 < row[name] <= 1 for name in SHOWN)


def test_teachers_of_all_edges(path, split, tmp_path, monkeypatch):
    import teachers
    from teachers import SHOWN, refitted

    train, _, test = split
    only = ["EASE", "ItemKNN"]
    args = SimpleNamespace(data="synthetic", lists=tmp_path, only=only, refit=True)
    found = refitted(args, split, {}, {})
    assert list(found) == [*only, "EASE + ItemKNN, equal weights"]
    full = train.clone()
    full["user", "item"].edge_index = test["user", "item"].edge_index
    models = [EASE(full), ItemKNN(full)]
    for name, model in zip(found, [*models, Listed(fuse(models, data=full))], strict=True):
        expected = evaluate(model, full, test, k=(20, 50), metrics=("recall", "ndcg"))
        measured = {metric: found[name][metric] for metric in SHOWN}
        assert measured == pytest.approx({m: expected[m] for m in SHOWN}, abs=1e-6)
    # With an ensemble's weights, chosen before; nothing is fitted again.
    monkeypatch.setattr(teachers, "taught", None)
    rows = {"ensemble": {"weights": [{"EASE": 1.0, "ItemKNN": 0.0}]}}
    again = refitted(args, split, rows, found)
    assert list(again) == ["ensemble", "EASE + ItemKNN, equal weights"]
    assert again["ensemble"]["recall@20"] == pytest.approx(found["EASE"]["recall@20"])


def test_the_section(path):
    from render_teachers import teachers

    row = {"val": 0.2, "recall@20": 0.1, "recall@50": 0.15, "ndcg@20": 0.05, "fit": 2.0}
    rows = {
        "EASE": {**row, "rank": 1.5, "bytes": 2_500_000},
        "ensemble": {**row, "rank": 0.0, "val sd": 0.01, "weights": [{"EASE": 0.5, "ALS": 0.0}]},
    }
    found = {"metric": "recall@20", "rows": rows, "refit": {"EASE": row}}
    text = teachers({"data": {"gowalla": found}}, "a machine")
    assert "| EASE | 0.2000 | 0.1000 | 0.1500 | 0.0500 | 2.0 | 1.5 | 2.5 |" in text
    assert "| ensemble | 0.2000 ± 0.0100 | 0.1000 |" in text
    assert "Weights of the ensemble: EASE 0.5." in text
    assert "| EASE | 0.1000 | 0.0500 |\n| LightGCN, published | 0.1820 | 0.1547 |" in text


def test_rows_of_lightgcn_replace_older_ones(path, split):
    from lightgcn_time import measured, merged
    from render_teachers import lightgcn_by_time

    row = measured(split, 8, 1, refit=False)
    assert row["seconds"] > 0 and 0 <= row["val"] <= 1
    again, wide = {**row, "ndcg@20": 0.5}, {**row, "dim": 16}
    rows = merged(merged(merged([], row), wide), again)
    assert rows == [again, wide]
    refit = measured(split, 8, 1, refit=True)
    assert "val" not in refit and refit["recall@20"] != row["recall@20"]
    text = lightgcn_by_time({"rows": [*rows, refit]}, "a machine")
    assert "| 8 | 1 |" in text and "| 16 | 1 |" in text and text.count("| Width |") == 2
