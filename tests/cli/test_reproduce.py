from __future__ import annotations

import json
import shutil

import pytest

from pyg_kd.cli.pipeline.reproduce import flattened


def test_a_run_is_repeated_to_the_last_digit(run, distilled):
    result = run("reproduce", distilled)
    assert result.code == 0, result.err
    found = result.json
    assert found["same"] and found["differences"] == [] and found["changed"] == {}
    names = flattened(json.loads((distilled / "metrics.json").read_text()))
    assert found["compared"] > len(names)  # and the bytes of models and bundle
    assert "most popular" in result.err  # the table of the repetition


def test_a_training_run(run, trained, tmp_path):
    result = run("reproduce", trained, "--out", tmp_path / "again")
    assert result.code == 0 and result.json["same"]
    for name in ("model.safetensors", "metrics.json", "config.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_what_differs_is_told(run, trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    metrics = json.loads((copy / "metrics.json").read_text())
    before = metrics["test"]["model"]["recall@10"]
    metrics["test"]["model"]["recall@10"] = before + 1e-15
    (copy / "metrics.json").write_text(json.dumps(metrics))
    record = json.loads((copy / "run.json").read_text())
    record["versions"]["torch"] = "1.0"
    (copy / "run.json").write_text(json.dumps(record))
    result = run("reproduce", copy)
    assert result.code == 1 and not result.json["same"]
    (difference,) = result.json["differences"]
    assert difference == {
        "name": "metrics/test/model/recall@10",
        "was": before + 1e-15,
        "is": before,
    }
    (changed,) = result.json["changed"]["versions"]
    assert changed["name"] == "torch" and changed["was"] == "1.0"
    assert "versions: torch was '1.0'" in result.err


def test_a_changed_file_is_refused(run, table, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(table.read_text())
    words = ["--epochs", 1, "--no-progress", "--dim", 4]
    assert run("train", path, "--out", tmp_path / "run", *words).code == 0
    path.write_text(table.read_text().replace("u1,", "u2,", 1))
    result = run("reproduce", tmp_path / "run")
    assert result.code == 2 and "has changed since" in result.err and result.out == ""


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "run.json"])
def test_damaged_runs(run, trained, tmp_path, name):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    (copy / name).write_text("{")
    result = run("reproduce", copy)
    assert result.code == 2 and "Traceback" not in result.err and name in result.err


def test_an_incomplete_configuration(run, trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    (copy / "config.yaml").write_text("lr: 0.1\n")
    result = run("reproduce", copy)
    assert result.code == 2 and "is damaged: it does not tell" in result.err


def test_options_that_an_older_version_did_not_have(run, trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    lines = (copy / "config.yaml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("refit:")]
    assert len(kept) == len(lines) - 1
    (copy / "config.yaml").write_text("".join(kept))
    assert run("reproduce", copy).json["same"]
