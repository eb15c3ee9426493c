from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pyg_kd.study.ablation import (
    ablate,
    ablation_from_json,
    ablation_section,
    ablation_to_json,
)
from pyg_kd.study.ablation.drawing import draw_interactions, draw_shares, interaction_matrix
from pyg_kd.study.ablation.section import share, span
from pyg_kd.study.report import to_html, to_markdown

GAINS = {"": 0.0, "a": 0.2, "b": 0.1, "c": 0.0, "ab": 0.25, "ac": 0.2, "bc": 0.1, "abc": 0.3}


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    base = rng.random((3, 50))
    rows = {
        frozenset(key): {s: torch.from_numpy(base[s] + by) for s in range(3)}
        for key, by in GAINS.items()
    }
    shuffled = {s: torch.from_numpy(base[s] + 0.06) for s in range(3)}
    options = {"metric": "ndcg@10", "num_replicates": 50}
    return ablate(["a", "b", "c"], rows, controls={"shuffled": shuffled}, **options)


def test_tables(found) -> None:
    section = ablation_section(found, base="student alone")
    subsets, contributions, interactions, controls = section.tables
    assert [row[0] for row in subsets.rows] == [
        "student alone", "a", "b", "c", "a + b", "a + c", "b + c", "a + b + c",
    ]  # fmt: skip
    for row, key in zip(subsets.rows, ["", "a", "b", "c", "ab", "ac", "bc", "abc"], strict=True):
        assert row[1] == pytest.approx(found.subsets[frozenset(key)].value)
        assert row[3] == (f"{GAINS[key]:+.4f}" if key else None)
    assert contributions.rows[-1][:3] == ["all", span(found.total), "100 % (100, 100)"]
    shares = [float(row[2].split(" %")[0]) for row in contributions.rows[:-1]]
    assert sum(shares) == pytest.approx(100, abs=1.5)
    assert [row[0] for row in interactions.rows] == ["a × b", "a × c", "b × c"]
    assert controls.rows[0] == ["shuffled", "+0.0600 (+0.0600, +0.0600)", "20 % (20, 20)"]
    assert "a shuffled teacher, which tells each user what it knows of another" in section.text
    assert "add +0.3000" in section.text


def test_reports(found) -> None:
    section = ablation_section(found, name="de-rrd")
    assert [figure.name for figure in section.figures] == ["de-rrd-shares", "de-rrd-interactions"]
    assert "a × b" in to_markdown(section)
    page = to_html(section)
    assert page.count("<svg") == 2 and "all, shuffled teacher" in page


def test_figures_show_the_numbers(found) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    draw_shares(found, figure)
    axes = figure.axes[0]
    bars = {
        label.get_text(): bar.get_width()
        for label, bar in zip(axes.get_yticklabels(), axes.patches, strict=True)
    }
    for name in "abc":
        assert bars[name] == pytest.approx(found.shapley[name].value)
    assert bars["all components"] == pytest.approx(0.3)
    assert bars["all, shuffled teacher"] == pytest.approx(0.06)
    figure = Figure()
    draw_interactions(found, figure)
    shown = np.asarray(figure.axes[0].images[0].get_array().filled(np.nan))
    for (one, other), effect in found.interactions.items():
        row, column = "abc".index(other) - 1, "abc".index(one)
        assert shown[row, column] == pytest.approx(effect.value)
    assert np.isnan(interaction_matrix(found)[0]).all()


def test_json(found) -> None:
    again = ablation_from_json(json.loads(json.dumps(ablation_to_json(found))))
    assert again == found
    with pytest.raises(ValueError, match="'total' is missing"):
        ablation_from_json({k: v for k, v in ablation_to_json(found).items() if k != "total"})


def test_unbounded_shares_survive_json() -> None:
    rng = np.random.default_rng(1)
    rows = {
        frozenset(key): {s: torch.from_numpy(rng.normal(size=20)) for s in range(2)}
        for key in ("", "a")
    }
    found = ablate(["a"], rows, num_replicates=100)
    assert found.shapley["a"].share_interval == (-np.inf, np.inf)
    assert share(found.shapley["a"]).endswith("(unbounded)")
    text = json.dumps(ablation_to_json(found), allow_nan=False)
    assert ablation_from_json(json.loads(text)) == found
    assert "may be none at all" in ablation_section(found).text


def test_no_gain() -> None:
    row = {0: torch.ones(4), 1: torch.ones(4)}
    found = ablate(["a"], {frozenset(): row, frozenset("a"): row}, num_replicates=10)
    assert ablation_section(found).tables[1].rows[0][2] == "no gain to share"
    assert ablation_from_json(ablation_to_json(found)) == found
