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
