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


def test_the_page_is_what_render_writes(render, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(render, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(render, "FIGURE", tmp_path / "methods.png")
    render.main()
    assert (tmp_path / "results.md").read_text() == (ROOT / "docs" / "results.md").read_text()


def test_rows_from_before_a_change_are_named_until_they_are_run_again(render):
    old = {"DE": {}, "RRD": {}, "CD": {}, "HTD + RRD": {}, "UnKD": {"cpu": "any"}}
    (note,) = render.outdated(old)
    assert "CD was run before" in note and "RRD and HTD + RRD were run before" in note
    assert "UnKD" not in note and "DE" not in note
    assert render.outdated({name: {"cpu": "any"} for name in old}) == []
    (note,) = render.outdated(old | {"CD": {"cpu": "any"}, "RRD": {"cpu": "any"}})
    assert "CD" not in note and note.startswith("HTD + RRD was run before")
    assert "CD was timed" in render.outdated_cost({"CD": {"seconds": 1.0}})
    assert render.outdated_cost({"CD": {"seconds": 1.0, "CPU seconds": 1.0}}) == ""
    assert render.outdated_cost({"RRD": {"seconds": 1.0}}) == ""


def test_names_are_listed(render):
    assert [render.listed(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


MACHINE = {"cpu": "some processor", "cores": 2, "threads": 1, "torch": "2.13"}


def test_two_versions_side_by_side(render):
    before, now = {"first": 2.0, "CPU seconds": 1.0}, {"first": 1.5, "CPU seconds": 0.5}
    rows = {"RRD": {"before": before, "now": now}}
    page = render.training_cost_against(
        {"machine": MACHINE, "before": "abc", "now": "def", "rows": rows}
    )
    assert "| RRD | 2.00 | 1.50 | 1.00 | 0.50 | 0.50 |" in page
    assert "commit abc" in page and "in def" in page and "some processor" in page


def test_starts_by_size(render):
    sizes = {"num_users": 1000, "num_items": 10, "num_edges": 20_000}
    before, now = {"CPU seconds": 3.0, "added GB": 2.0}, {"CPU seconds": 1.0, "added GB": 0.5}
    result = {"machine": MACHINE, "before": "abc", "now": "def", "repeats": 3}
    result["rows"] = [{**sizes, "before": before, "now": now}]
    assert "| 1,000 | 10 | 20,000 | 3.00 | 1.00 | 3.0x | 2.00 | 0.50 |" in render.bind(result)
    result["growth"] = {"CPU seconds": 1.04, "added GB": 0.98}
    page = render.bind_growth(result)
    assert "| 1,000 | 20,000 | 1.00 | 0.50 |" in page and "power 1.04" in page
