from __future__ import annotations

import json

import pytest

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
    refused = run("latency", distilled / "bundle", *FEW, "--figure", tmp_path / "other.png")
    assert refused.code == 2 and "recall" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dtypes", "int3"], "'dtypes' must be one of"),
        (["--requests", 0], "requests"),
        (["--threads", 0], "threads"),
    ],
)
def test_mistakes(run, distilled, words, message):
    result = run("latency", distilled / "bundle", *words)
    assert result.code == 2 and message in result.err
