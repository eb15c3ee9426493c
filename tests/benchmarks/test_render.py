"""What the page of results says under its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def render(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import render
    import render_methods

    monkeypatch.setattr(render_methods, "FIGURE", tmp_path / "methods.png")
    return render


@pytest.fixture
def methods(render):
    import render_methods

    return render_methods


@pytest.fixture
def cost(render):
    import render_cost

    return render_cost


def test_the_pages_are_what_render_writes(render):
    pytest.importorskip("matplotlib")
    for path, text in render.texts().items():
        assert (ROOT / path).read_text() == text, f"run benchmarks/render.py: {path}"


def test_every_link_of_the_contents_leads_to_a_section(render):
    page = (ROOT / "docs" / "results.md").read_text()
    links = re.findall(r"^- \[(.+)\]\(#(.+)\)$", page, flags=re.MULTILINE)
    titles = re.findall(r"^## (.+)$", page, flags=re.MULTILINE)
    assert [title for title, _ in links] == titles and len({link for _, link in links}) > 10
    assert render.anchor("ConCF, CiteULike, 2,536 users & items") == (
        "concf-citeulike-2536-users--items"
    )


def test_a_report_has_its_page_and_its_link(render, monkeypatch):
    page = render.Section("Some analysis", "Text.")
    monkeypatch.setattr(render, "reports", lambda: {"some": page})
    found = render.texts()
    assert "[Some analysis](results/some.md)" in found["docs/results.md"]
    assert found["benchmarks/reports/some/report.md"].startswith("# Some analysis\n\nText.")
    assert "include} ../../benchmarks/reports/some/report.md" in found["docs/results/some.md"]


def test_a_study_is_summed_up(render, monkeypatch, tmp_path):
    pytest.importorskip("pyarrow")
    from pyg_kd.study import summary
    from tests.study.report.example_study import write_study

    study = write_study(tmp_path, seeds=(0, 1, 2), worlds=("mf",), num_users=60, title="A demo")
    found = summary(study, ["ndcg@20"], num_replicates=99, progress=False)
    monkeypatch.setattr(render, "studies", lambda: {"demo": found})
    pages = render.texts()
    page = pages["docs/results.md"]
    part = page[page.index("## Studies") : page.index("## Three lines")]
    assert "### A demo" in part and "[The whole report](results/demo.md)" in part
    assert "The best row is **SoftLabel, whole catalogue**" in part and "| DE | 0.1" in part
    assert "| DE | +0.0" in part and "Gap closed" in part
    assert "## Commands" in pages["benchmarks/reports/demo/report.md"]


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


def test_inner_loops_by_threads(render):
    row = {"before": 1.2, "now": 0.6, "ratio": 2.0, "ratio, least": 1.9, "ratio, greatest": 2.14}
    row |= {"wall before": 3.0, "wall now": 2.0, "difference, first epoch": 2e-7}
    rows = {
        "RRD": {"1": {**row, "batches": None, "commit": "def"}},
        "HTD, soft": {"2": {**row, "batches": 20, "commit": "def+"}},
    }
    page = render.SECTIONS["inner_loops"]({"machine": MACHINE, "before": "abc", "rows": rows})
    cells = "1.20 | 0.60 | 2.00x (1.90 to 2.14) | 1.50x | 2e-07"
    assert f"| RRD | 1 | {cells} | def |" in page
    assert f"| HTD, soft, 20 batches | 2 | {cells} | def+ |" in page
    assert "commit abc" in page and "some processor" in page


def test_starts_by_size(cost):
    sizes = {"num_users": 1000, "num_items": 10, "num_edges": 20_000}
    before, now = {"CPU seconds": 3.0, "added GB": 2.0}, {"CPU seconds": 1.0, "added GB": 0.5}
    result = {"machine": MACHINE, "before": "abc", "now": "def", "repeats": 3}
    result["rows"] = [{**sizes, "before": before, "now": now}]
    assert "| 1,000 | 10 | 20,000 | 3.00 | 1.00 | 3.0x | 2.00 | 0.50 |" in cost.bind(result)
    result["growth"] = {"CPU seconds": 1.04, "added GB": 0.98}
    page = cost.bind_growth(result)
    assert "| 1,000 | 20,000 | 1.00 | 0.50 |" in page and "power 1.04" in page
