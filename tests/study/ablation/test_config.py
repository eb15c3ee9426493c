from __future__ import annotations

from itertools import combinations

import pytest

from pyg_kd.study.ablation import ablation_rows, expand_ablation
from pyg_kd.study.ablation.config import control_rows

DE = {"method": "DistillationExperts", "search": {"weight": [0.01, 0.1]}}
RRD = {"method": "RelaxedRankingDistillation", "search": {"weight": [0.001]}}


def test_methods_are_added() -> None:
    rows = expand_ablation({"components": {"DE": DE, "RRD": RRD}, "search": {"scale": [1, 2]}})
    assert rows == {
        "student alone": {},
        "DE": DE,
        "RRD": RRD,
        "DE + RRD": {"parts": ["DE", "RRD"], "search": {"scale": [1, 2]}},
    }


def test_changes_are_merged() -> None:
    base = {"method": "SoftLabel", "options": {"own": "ignore"}, "search": {"trainer.lr": [0.1]}}
    components = {
        "mask": {"options": {"own": "mask"}},
        "cosine": {"trainer": {"schedule": "cosine"}},
        "init": {"model": {"init_std": 0.1}},
    }
    rows = expand_ablation({"base": base, "base_name": "plain", "components": components})
    assert len(rows) == 8 and rows["plain"] == base
    assert rows["mask + init"] == {
        **base,
        "options": {"own": "mask"},
        "model": {"init_std": 0.1},
    }
    assert rows["mask + cosine + init"]["trainer"] == {"schedule": "cosine"}
    assert base["options"] == {"own": "ignore"}  # what was given stays as it is


@pytest.mark.parametrize("n", range(1, 6))
def test_every_subset_has_a_row(n: int) -> None:
    names = [f"part {i}" for i in range(n)]
    ablation = {"components": {name: {"options": {name: 1}} for name in names}}
    found = ablation_rows(ablation)
    wanted = {frozenset(c) for size in range(n + 1) for c in combinations(names, size)}
    assert found.keys() == wanted
    rows = expand_ablation(ablation)
    assert [*rows] == [*found.values()]
    for subset, name in found.items():
        assert set(rows[name].get("options", {})) == subset


def test_controls() -> None:
    ablation = {
        "components": {"DE": DE, "RRD": RRD},
        "search": {"scale": [1, 2]},
        "controls": {"shuffled": None, "none": {"options": {"own": "ignore"}}},
    }
    rows = expand_ablation(ablation)
    assert rows["DE + RRD, shuffled teacher"] == {
        "parts": ["DE", "RRD"],
        "like": "DE + RRD",
        "knowledge": "shuffled",
    }
    assert rows["DE + RRD, no teacher"]["options"] == {"own": "ignore"}
    assert control_rows(ablation) == {
        "shuffled": "DE + RRD, shuffled teacher",
        "none": "DE + RRD, no teacher",
    }


@pytest.mark.parametrize(
    "ablation, message",
    [
        ([], "'ablation' must be a mapping"),
        ({"parts": {}}, "there is no 'parts': one of components"),
        ({}, "ablation.components must be 1 to 5 by name"),
        ({"components": {str(i): {"dim": 2} for i in range(6)}}, "must be 1 to 5 by name"),
        ({"components": {"a + b": DE}}, "must have a name without"),
        ({"components": {"a": None}}, "ablation.components.a must be part of a row"),
        ({"components": {"a": DE}, "controls": ["random"]}, r"\(got 'random'\)"),
        (
            {
                "base": {"method": "SoftLabel"},
                "components": {"a": {"trainer": {"lr": 1}}, "b": {"trainer": {"lr": 2}}},
            },
            "component 'b' sets 'lr' to 2, another one to 1",
        ),
    ],
)
def test_errors(ablation, message) -> None:
    with pytest.raises(ValueError, match=message):
        expand_ablation(ablation)
