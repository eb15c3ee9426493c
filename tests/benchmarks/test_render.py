"""What the page of results says under its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def render(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import render

    return render


@pytest.fixture
def methods(render):
    import render_methods

    return render_methods


@pytest.fixture
def cost(render):
    import render_cost

    return render_cost


def test_the_page_is_what_render_writes(render, methods, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(render, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(methods, "FIGURE", tmp_path / "methods.png")
    render.main()
    assert (tmp_path / "results.md").read_text() == (ROOT / "docs" / "results.md").read_text()


def test_rows_from_before_a_change_are_named_until_they_are_run_again(methods, cost):
    old = {"DE": {}, "RRD": {}, "CD": {}, "HTD + RRD": {}, "UnKD": {"cpu": "any"}}
    (note,) = methods.outdated(old)
    assert "CD was run before" in note and "RRD and HTD + RRD were run before" in note
    assert "UnKD" not in note and "DE" not in note
    assert methods.outdated({name: {"cpu": "any"} for name in old}) == []
    (note,) = methods.outdated(old | {"CD": {"cpu": "any"}, "RRD": {"cpu": "any"}})
    assert "CD" not in note and note.startswith("HTD + RRD was run before")
    assert "CD was timed" in cost.outdated_cost({"CD": {"seconds": 1.0}})
    assert cost.outdated_cost({"CD": {"seconds": 1.0, "CPU seconds": 1.0}}) == ""
    assert cost.outdated_cost({"RRD": {"seconds": 1.0}}) == ""


MACHINE = {"cpu": "some processor", "cores": 2, "threads": 1, "torch": "2.13"}


def test_two_versions_side_by_side(cost):
    before, now = {"first": 2.0, "CPU seconds": 1.0}, {"first": 1.5, "CPU seconds": 0.5}
    rows = {"RRD": {"before": before, "now": now}}
    page = cost.training_cost_against(
        {"machine": MACHINE, "before": "abc", "now": "def", "rows": rows}
    )
    assert "| RRD | 2.00 | 1.50 | 1.00 | 0.50 | 0.50 |" in page
    assert "commit abc" in page and "in def" in page and "some processor" in page


def test_starts_by_size(cost):
    sizes = {"num_users": 1000, "num_items": 10, "num_edges": 20_000}
    before, now = {"CPU seconds": 3.0, "added GB": 2.0}, {"CPU seconds": 1.0, "added GB": 0.5}
    result = {"machine": MACHINE, "before": "abc", "now": "def", "repeats": 3}
    result["rows"] = [{**sizes, "before": before, "now": now}]
    assert "| 1,000 | 10 | 20,000 | 3.00 | 1.00 | 3.0x | 2.00 | 0.50 |" in cost.bind(result)
    result["growth"] = {"CPU seconds": 1.04, "added GB": 0.98}
    page = cost.bind_growth(result)
    assert "| 1,000 | 20,000 | 1.00 | 0.50 |" in page and "power 1.04" in page
