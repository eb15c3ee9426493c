"""The page about scale says what the file of results says."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def render(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import render_scale

    return render_scale


def result():
    def row(edges, seconds, **more):
        sizes = {"users": edges // 20, "items": edges // 200, "edges": edges}
        return {"CPU seconds": seconds, "peak GB": 1.0, **sizes, **more}

    batch = {"ms a batch": 5.0, "bind": 3.0, "batches run": 9, "batches": 90}
    machine = {"cpu": "A", "cores": 2, "threads": 1, "torch": "2", "python": "3"}
    return {
        "machine": machine, "batch": 8192, "ranked users": 1_000, "listed": 100,
        "stages": {
            "split": {"rows": [row(10**6, 1.0), row(4 * 10**6, 5.0)], "exponent": 1.161},
            "epoch": {"rows": [row(10**6, 2.0, **batch)], "exponent": None},
            "epoch of RRD": {"rows": [row(10**6, 8.0, **batch)], "exponent": None},
            "extraction": {"rows": [row(10**6, 10.0)], "exponent": None},
        },
        "fixed": {"split": {"rows": [row(10**6, 3.0), row(2 * 10**6, 6.0)], "exponent": 1.0}},
        "users": {"epoch": [row(10**6, 2.0, **batch), row(10**6, 3.0, **batch)]},
        "against": {"split": {"before": row(10**6, 9.0), "now": row(10**6, 2.0)}},
    }  # fmt: skip


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_is_what_render_writes(render):
    stored = json.loads((ROOT / "benchmarks" / "results" / "scale.json").read_text())
    found = (ROOT / "docs" / "scale.md").read_text()
    assert found == render.page(stored), "run benchmarks/render_scale.py"


def test_what_a_piece_costs(render):
    found = {unit.of: render.nanoseconds(result(), unit) for unit in render.UNITS}
    assert found["a place of the list of an edge's user"] == pytest.approx(8e9 / (1e6 * 80))
    # Bound in three seconds: a million edges, and 100 listed items of 50,000 users.
    assert found["an edge or a listed item, to bind"] == pytest.approx(3e9 / 6e6)
    assert found["a score, width 64"] == pytest.approx(10e9 / (1_000 * 5_000))
    assert found["a score, width 20"] is None
    split = next(unit for unit in render.UNITS if unit.stage == "split")
    assert render.nanoseconds(result(), split) == pytest.approx(5e9 / 4e6)  # of the largest


def test_the_plan_multiplies_them(render):
    split, *_ = lines(render.plan(result()), "| split")
    hours = 1e10 * 1250e-9 / 3600
    expected = [f"{hours:,.0f}", f"{hours / 96:,.1f}", f"{hours / 256:,.1f}"]
    assert cells(split)[1:] == ["1e10", *expected]
    evaluation, *_ = lines(render.plan(result()), "| evaluation")
    assert cells(evaluation)[2:] == ["not measured", "-", "-"]


def test_tables_of_the_page(render):
    found = render.page(result())
    assert cells(lines(found, "| split | 1.0")[0]) == ["split", "1.0", "5.0", "1.16", "1.0"]
    assert cells(lines(found, "| epoch | 2.0")[0]) == ["epoch", "2.0", "-", "-", "1.0"]
    assert cells(lines(found, "| split | 9.0")[0]) == ["split", "9.0", "2.0", "4.5"]
    assert cells(lines(found, "| split | 3.0")[0]) == ["split", "3.0", "6.0", "1.00", "1.0"]
    assert "50,000 users, 5,000 items:" in found
    ratios = [cells(line)[-1] for line in lines(render.equal_edges(result()), "| 50,000")]
    assert ratios == ["1.00", "1.50"]
    assert "$" not in found


def test_what_is_missing_is_said(render):
    without = copy.deepcopy(result())
    del without["users"], without["against"], without["fixed"]
    for part in (render.equal_edges, render.against, render.fixed):
        assert part(without) == "Not measured yet."
