"""What the page says of the protocol of 2025-26."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def render(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import render_protocol

    return render_protocol


def row(value, **more):
    metrics = {name: value for name in ("recall@10", "ndcg@10", "recall@20", "ndcg@20")}
    deviations = {f"{name} deviation": 0.01 for name in metrics}
    return {"seeds": 5, "setting": {}, "CPU seconds": 7.0, **metrics, **deviations, **more}


@pytest.fixture
def result():
    test = {"difference": 0.02, "p users": 1e-9, "p seeds": 0.03}
    tests = {name: test for name in ("recall@10", "ndcg@10", "recall@20", "ndcg@20")}
    setting = {
        "weight": 30.0,
        "trainer": {"weight_decay": 0.01},
        "options": {"temperature": [4, 20]},
    }
    found = {
        "sizes": {"users": 1_000, "items": 20, "interactions": 3_000},
        "split sha256": "abcdef0123456789",
        "note": "Something else.",
        "published": {"student alone": [0.16, 0.1]},
        "rows": {
            "teacher": row(0.3, seeds=1) | {"ndcg@20 deviation": None},
            "student alone": row(0.2),
            "SoftLabel": row(
                0.25, setting=setting, against={"student alone": tests, "RCE-KD": tests}
            ),
        },
        "settings": 2,
        "not run": ["DE", "HTD"],
    }
    return {"configs": {"gowalla_mf": found, "not shown": {}}}


def test_a_table_of_each_configuration(render, result):
    page = render.protocol(result, "some machine")
    assert "had 2 settings at the first seed" in page and "some machine" in page
    assert "### Gowalla, matrix factorisation" in page
    assert (
        "1,000 users, 20 items, 3,000 interactions; split `abcdef012345`. Something else." in page
    )
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines[2].startswith("| teacher |  | 0.3000 ± 0.0100 |") and "| 0.3000 |" in lines[2]
    assert lines[3].endswith("| 5 | 7 | 0.1600 (+25.0 %), 0.1000 (+100.0 %) |")
    assert "| weight 30, weight decay 0.01, temperature 4 and 20 |" in lines[4]
    assert "| + <1e-6 | + 0.03 | 5 | 7 |  |" in lines[4]
    sentence = "SoftLabel minus RCE-KD: R@20 +0.0200, users p <1e-6, seeds p 0.03; N@20 +0.0200"
    assert sentence in page


def test_no_column_of_published_figures_without_any(render, result):
    result["configs"]["gowalla_mf"]["published"] = {}
    page = render.protocol(result, "some machine")
    assert "Published" not in page
