"""A study with the key ``ablation``, from its configuration to its section."""

from __future__ import annotations

from itertools import permutations

import pytest

from pyg_kd.study.ablation import ablation_of, ablation_section, ablation_sections
from pyg_kd.study.conducting import run_study
from pyg_kd.study.processes import InProcess

CONFIG = {
    "name": "taken apart",
    "metric": "ndcg@5",
    "test": {"k": [5], "metrics": ["ndcg", "recall"]},
    "seeds": [0, 1],
    "datasets": {
        "made": {
            "data": "SyntheticInteractions",
            "options": {"num_users": 60, "num_items": 40, "num_edges": 900},
        }
    },
    "teachers": {
        "one": {"ensemble": ["ease"], "num_items": 20},
        "several": {"ensemble": ["ease", "user_knn"], "num_items": 20},
    },
    "worlds": {
        "mf": {
            "teacher": "several",
            "student": {"model": "MF", "dim": 4, "trainer": {"max_epochs": 2}},
        }
    },
    "methods": {"student alone": {}},
    "ablation": {
        "base": {
            "method": "SoftLabel",
            "teacher": "one",
            "options": {"own": "ignore", "num_listed": 10},
            "trainer": {"base_weight": 0.0, "batch_by": "user", "batch_size": 30},
        },
        "base_name": "soft labels",
        "components": {
            "ensemble": {"teacher": "several"},
            "mask": {"options": {"own": "mask"}},
        },
        "controls": {
            "shuffled": None,
            "popularity": None,
            "self": None,
            "none": {"options": {"own": "ignore", "target": "score"}},
        },
    },
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    return run_study(CONFIG, out, executor=InProcess(), progress=False)


def test_shares_are_those_of_the_rows(results) -> None:
    found = ablation_of(results, num_replicates=100)
    assert (found.metric, found.num_seeds) == ("ndcg@5", 2)
    values = results.values("made", "mf", "ndcg@5")
    mean = {
        name: float(sum(v.mean() for v in seeds.values()) / 2) for name, seeds in values.items()
    }
    rows = {(): "soft labels", ("ensemble",): "ensemble", ("mask",): "mask"}
    rows[("ensemble", "mask")] = "ensemble + mask"
    for name in ("ensemble", "mask"):
        gains = []
        for order in permutations(("ensemble", "mask")):
            before = tuple(sorted(order[: order.index(name)]))
            after = tuple(sorted((*before, name)))
            gains.append(mean[rows[after]] - mean[rows[before]])
        assert found.shapley[name].value == pytest.approx(sum(gains) / 2, abs=1e-12)
    for control, row in (("shuffled", "shuffled teacher"), ("none", "no teacher")):
        gain = mean[f"ensemble + mask, {row}"] - mean["soft labels"]
        assert found.controls[control].value == pytest.approx(gain, abs=1e-12)
    assert [*found.controls] == ["shuffled", "popularity", "self", "none"]


def test_controls_teach_something_else(results) -> None:
    values = results.values("made", "mf", "ndcg@5")
    rows = [name for name in values if name.startswith("ensemble + mask")]
    told = {tuple(values[name][0].tolist()) for name in rows}
    assert len(rows) == len(told) == 5


def test_section(results) -> None:
    found = ablation_of(results, metric="recall@5", num_replicates=50)
    section = ablation_section(found, base="soft labels")
    assert section.tables[0].rows[0][0] == "soft labels"
    assert section.tables[0].header[1] == "recall@5"
    (made,) = ablation_sections(results)
    assert made.title == "Ablation" and made.tables[0].header[1] == "ndcg@5"


def test_errors(results) -> None:
    with pytest.raises(KeyError, match="no run has the metric"):
        ablation_of(results, metric="map@5")
    with pytest.raises(ValueError, match="has no tested run of 'DE' on 'made' in 'mf'"):
        ablation = {"components": {"DE": {"method": "DistillationExperts"}}}
        ablation_of(results, ablation=ablation)
    results.config["ablation"] = None
    assert ablation_sections(results) == []
    with pytest.raises(ValueError, match="'taken apart' has no 'ablation'"):
        ablation_of(results)
