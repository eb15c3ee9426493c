from __future__ import annotations

import csv
import json

import pytest
import torch
import yaml

from pyg_kd.cli.pipeline import tune as pipeline
from pyg_kd.study.tuning import Range, search
from pyg_kd.study.tuning import student as student_module

QUICK = ["--no-progress", "--threads", 1, "--epochs", 3, "--evaluate-every", 1]
QUICK += ["--baseline-epochs", 3, "--k", "5,10"]
TEACHER = ["--teacher", "ease", "--dim", 4]


@pytest.fixture(scope="module")
def tuned(table, tmp_path_factory):
    """A run of tune on the small table, what it printed, and the words."""
    from pyg_kd.cli import main

    out = tmp_path_factory.mktemp("tuned") / "run"
    words = ["tune", table, *TEACHER, *QUICK, "--trials", 3, "--out", out]
    threads = torch.get_num_threads()
    assert main([str(word) for word in words]) == 0
    torch.set_num_threads(threads)
    return out, words


def read(out):
    return json.loads((out / "tuning.json").read_text())["searches"]


def test_what_is_written(tuned) -> None:
    out, _ = tuned
    searches, metrics = read(out), json.loads((out / "metrics.json").read_text())
    assert [*searches] == [*metrics] == ["student", "student alone"]
    for name, found in metrics.items():
        values = [trial["value"] for trial in searches[name]["trials"]]
        assert found["trials"] == len(values) == 3
        assert found["best"] == max(values) >= found["recipe"] == values[0]
    rows = list(csv.DictReader((out / "trials.csv").open()))
    assert [row["model"] for row in rows] == ["student"] * 3 + ["student alone"] * 3
    assert [float(row["recall@20"]) for row in rows[:3]] == pytest.approx(
        [trial["value"] for trial in searches["student"]["trials"]]
    )
    page = (out / "report" / "report.html").read_text()
    assert page.count("<svg") == 3 and "http" not in page.split("<svg")[0]


def test_the_best_options_are_what_distill_takes(run, tuned, tmp_path) -> None:
    out, _ = tuned
    result = run("distill", "--config", out / "best.yaml", "--out", tmp_path / "run")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    metrics = json.loads((out / "metrics.json").read_text())
    for name in ("student", "student alone"):
        assert found["validation"][name]["recall@20"] == pytest.approx(metrics[name]["best"])
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    best = metrics["student"]["setting"]
    assert config["lr"] == best["lr"] and config["weight_decay"] == best["weight_decay"]
    labels = config["methods"]["SoftLabel"]
    assert labels["temperature"] == best["SoftLabel.temperature"]
    assert config["baseline_training"]["lr"] == metrics["student alone"]["setting"]["lr"]


def test_the_first_trial_is_what_distill_does(run, tuned, table, tmp_path) -> None:
    out, _ = tuned
    words = [*TEACHER, *QUICK, "--out", tmp_path / "run"]
    result = run("distill", table, *words)
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["validation"]
    metrics = json.loads((out / "metrics.json").read_text())
    for name in ("student", "student alone"):
        assert found[name]["recall@20"] == pytest.approx(metrics[name]["recipe"])


def test_it_goes_on(run, tuned, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "_write_report", lambda *_: None)
    out, words = tuned
    before = read(out)
    words = [5 if place and words[place - 1] == "--trials" else w for place, w in enumerate(words)]
    result = run(*words)
    assert result.code == 0, result.err
    after = read(out)
    for name, kept in before.items():
        trials = after[name]["trials"]
        assert len(trials) == 5 and trials[:3] == kept["trials"]
    assert "continuing the run" in result.err
    other = run(*words, "--dim", 5)
    assert other.code == 2 and "holds a complete run" in other.err
    assert read(out) == after


def test_interrupted(run, table, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "_write_report", lambda *_: None)
    trained, whole = [], student_module.Trainer

    class Interrupted(whole):
        def fit(self, *args, **kwargs):
            trained.append(self)
            if len(trained) == 3:
                raise KeyboardInterrupt
            return super().fit(*args, **kwargs)

    out = tmp_path / "run"
    words = ["tune", table, *TEACHER, *QUICK, "--trials", 4, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(student_module, "Trainer", Interrupted)
        result = run(*words)
    assert result.code == 130
    assert len(read(out)["student"]["trials"]) == 2
    assert yaml.safe_load((out / "best.yaml").read_text())["lr"] > 0
    assert "recall@20, best" in result.out
    result = run(*words)
    assert result.code == 0, result.err
    assert {name: len(found["trials"]) for name, found in read(out).items()} == {
        "student": 4,
        "student alone": 4,
    }


def test_several_methods_and_no_baseline(run, table, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "_write_report", lambda *_: None)
    methods = "DistillationExperts(num_experts=2)=0.1,"
    methods += "RelaxedRankingDistillation(num_interesting=5,num_uninteresting=5)=0.01"
    words = ["--teacher", "mf", "--teacher-dim", 8, "--teacher-epochs", 3, "--dim", 4]
    words += ["--methods", methods, "--student", "mf", "--no-baseline", "--trials", 2, *QUICK]
    result = run("tune", table, *words, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    searches = read(tmp_path / "run")
    assert [*searches] == ["student"]
    assert {*searches["student"]["space"]} == {
        "lr",
        "weight_decay",
        "DistillationExperts.weight",
        "RelaxedRankingDistillation.weight",
        "RelaxedRankingDistillation.scale",
    }
    best = yaml.safe_load((tmp_path / "run" / "best.yaml").read_text())["methods"]
    setting = max(searches["student"]["trials"], key=lambda trial: trial["value"])["setting"]
    assert best["DistillationExperts"]["weight"] == setting["DistillationExperts.weight"]
    assert best["DistillationExperts"]["num_experts"] == 2


def test_doubts(capsys) -> None:
    space = {"lr": Range(0.01, 0.001, 0.1)}
    options = {"metric": "recall@20", "minutes": 1, "trials": 40, "progress": False}
    up = search(lambda setting, report: setting["lr"], space, **options)
    pipeline.report({"student": up, "student alone": up})
    told = capsys.readouterr()
    assert "the student alone, tuned as long, is no worse" in told.err
    assert ("lies at the edge of what was searched" in told.err) == bool(up.edges)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--minutes", 0], "'minutes' must be positive (got 0.0)"),
        (["--trials", 0], "'trials' must be a positive integer (got 0)"),
        (["--val", 0], "tune needs interactions to validate on"),
        (["--methods", "SoftLable=1"], "there is no method 'SoftLable', did you mean SoftLabel?"),
        (["--metric", "recall"], "'metric' must"),
    ],
)
def test_errors(run, table, tmp_path, words, message) -> None:
    result = run("tune", table, *TEACHER, *QUICK, *words, "--out", tmp_path / "run")
    assert result.code == 2 and message in result.err
