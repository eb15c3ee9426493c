from __future__ import annotations

import json
import sys

import pytest

from pyg_kd.cli.engine import latency

FEW = ["--requests", 20, "--warmup", 2, "--bulk", 16, "--no-progress"]


def test_a_run_is_timed_beside_its_teacher(run, distilled):
    words = ["--format", "json", "--dtypes", "int8,float32", "--k", 10]
    result = run("latency", distilled, *FEW, *words)
    assert result.code == 0, result.err
    rows = {row["model"]: row for row in result.json["rows"]}
    assert list(rows) == ["teacher", "student", "student int8"]
    metrics = json.loads((distilled / "metrics.json").read_text())["test"]
    for name in ("teacher", "student"):
        assert rows[name]["recall"] == pytest.approx(metrics[name]["recall@10"])
        assert 0 < rows[name]["p50"] <= rows[name]["p99"] and rows[name]["users_per_second"] > 0
    assert rows["student"]["nbytes"] == 3200 > rows["student int8"]["nbytes"]
    assert result.json["propagation"].keys() == {"fresh", "cached"}


def test_a_table(run, distilled):
    result = run("latency", distilled, *FEW)
    assert "p50 ms" in result.out and "teacher: computing its vectors took" in result.out
    without = run("latency", distilled, *FEW, "--no-propagation", "--format", "markdown")
    assert without.out.startswith("| model") and "computing" not in without.out


def test_bundles(run, distilled):
    words = ["--teacher", distilled / "teacher", "--format", "json"]
    rows = run("latency", distilled / "bundle", *FEW, *words).json["rows"]
    assert [row["model"] for row in rows] == ["teacher", "student"]
    assert all(row["recall"] is None for row in rows)


def test_a_run_of_train(run, trained):
    rows = run("latency", trained, *FEW, "--format", "json").json["rows"]
    assert [row["model"] for row in rows] == ["model"]


def test_a_figure(run, distilled, tmp_path):
    path = tmp_path / "figure.png"
    assert run("latency", distilled, *FEW, "--figure", path).code == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def untimed(monkeypatch):
    """Fail where something is timed."""

    def refused(*_, **__):
        raise AssertionError("something was timed")

    monkeypatch.setattr(latency, "measure_latency", refused)


@pytest.mark.parametrize("name", ["figure.foo", "figure", "figure."])
def test_a_figure_of_no_format_costs_no_time(run, distilled, tmp_path, untimed, name):
    refused = run("latency", distilled, *FEW, "--figure", tmp_path / name)
    assert refused.code == 2 and "'figure' must end in one of ." in refused.err
    assert ".png, " in refused.err and list(tmp_path.iterdir()) == []


def test_a_figure_that_cannot_be_drawn_costs_no_time(
    run, distilled, table, tmp_path, untimed, monkeypatch
):
    refused = run("latency", distilled / "bundle", *FEW, "--figure", tmp_path / "other.png")
    assert refused.code == 2 and "'figure' shows recall, which needs the folder of" in refused.err
    (tmp_path / "folder.png").mkdir()
    refused = run("latency", distilled, *FEW, "--figure", tmp_path / "folder.png")
    assert refused.code == 2 and "'figure' must be a file" in refused.err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    refused = run("latency", distilled, *FEW, "--figure", tmp_path / "other.png")
    assert refused.code == 2 and "'figure' needs matplotlib: pip install" in refused.err


def test_what_was_measured_is_shown_before_it_is_drawn(run, distilled, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(latency, "plot_tradeoff", full)
    words = ["--format", "json", "--figure", tmp_path / "figure.png"]
    result = run("latency", distilled, *FEW, *words)
    assert result.code == 2 and "no space left" in result.err
    assert [row["model"] for row in result.json["rows"]] == ["teacher", "student"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dtypes", "int3"], "'dtypes' must be one of"),
        (["--requests", 0], "requests"),
        (["--seed", -1], "'seed' must be an integer from 0 to 4294967295 (got -1)"),
        (["--threads", 0], "threads"),
    ],
)
def test_mistakes(run, distilled, words, message):
    result = run("latency", distilled / "bundle", *words)
    assert result.code == 2 and message in result.err
