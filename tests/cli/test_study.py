from __future__ import annotations

import itertools
import json
import shlex

import pytest

from pyg_kd.cli.pipeline import study as pipeline
from tests.study.tiny import CONFIG, conduct, tiny


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The file of the tiny study; its runs are in this process."""
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(tiny(results="stored.json")))
    monkeypatch.chdir(tmp_path)
    real = pipeline.run_study, pipeline.verify_study
    from pyg_kd.study.processes import InProcess

    monkeypatch.setattr(
        pipeline, "run_study", lambda *a, **k: real[0](*a, executor=InProcess(), **k)
    )
    monkeypatch.setattr(
        pipeline, "verify_study", lambda *a, **k: real[1](*a, executor=InProcess(), **k)
    )
    return path


def test_a_study_is_run_reported_stored_and_verified(run, config, tmp_path):
    result = run("study", "tiny.yaml", "--seeds", "0", "--save", "--no-progress")
    assert result.code == 0, result.err
    told = result.json
    assert told["missing"] == 0 and told["failed"] == {} and told["study"] == "tiny"
    assert list(told["rows"]) == [f"made/mf/{m}" for m in ("teacher", "student alone", "soft")]
    out = tmp_path / "out" / "tiny"
    assert (out / "report.md").is_file() and (out / "report.html").is_file()
    stored = json.loads((tmp_path / "stored.json").read_text())
    (key,) = [k for k, one in stored["runs"].items() if one["row"] == ["made", "mf", "soft", 0]]
    assert stored["runs"][key]["command"] == f"pyg-kd study tiny.yaml --run {key}"
    assert stored["runs"][key]["test"] == {
        k: v for k, v in told["rows"]["made/mf/soft"].items() if k != "seeds"
    }

    result = run("study", "tiny.yaml", "--run", key, "--no-progress")
    assert result.code == 0 and result.json["difference"] == 0.0
    result = run("study", "tiny.yaml", "--verify", "2", "--out", "nowhere", "--no-progress")
    assert result.code == 0 and [row["same"] for row in result.json] == [True, True]

    stored["runs"][key]["test"]["ndcg@5"] += 0.01
    (tmp_path / "stored.json").write_text(json.dumps(stored))
    words = ("study", "tiny.yaml", "--verify", key, "--out", "nowhere", "--no-progress")
    result = run(*words)
    assert result.code == 1 and not result.json[0]["same"]


def test_the_command_of_a_run_works_as_it_stands(run, config, tmp_path):
    """With the folder of the study and those of the data; stored results hold neither."""
    pairs = [f"{u},{i}" for u in range(40) for i in range(u % 5, 30, 2)]
    (tmp_path / "my data").mkdir()
    (tmp_path / "my data" / "table.csv").write_text("user,item\n" + "\n".join(pairs) + "\n")
    data = {"made": {"table": "elsewhere/table.csv"}}
    config.write_text(json.dumps(tiny(datasets=data, results="stored.json", seeds=[0])))
    words = ("--roots.made", "my data", "--out", tmp_path / "my out", "--no-progress", "--save")
    result = run("study", "tiny.yaml", *words, "--methods", "student alone")
    assert result.code == 0, result.err
    report = (tmp_path / "my out" / "report.md").read_text()
    (command,) = [
        line
        for label, line in itertools.pairwise(report.splitlines())
        if label.startswith("# ") and label.endswith("student alone, seed 0")
    ]
    program, *again = shlex.split(command)
    assert program == "pyg-kd" and again[2:6] == ["--out", "my out", "--roots.made", "my data"]
    result = run(*again, "--no-progress")
    assert result.code == 0 and result.json["same"], result.err
    stored = (tmp_path / "stored.json").read_text()
    assert "my out" not in stored and "my data" not in stored
    key = again[-1]
    assert json.loads(stored)["runs"][key]["command"] == f"pyg-kd study tiny.yaml --run {key}"


def test_only_the_report(run, config, tmp_path):
    conduct(CONFIG, tmp_path / "out" / "tiny", seeds=[0], methods=["student alone"])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("tiny/runs/*/*")}
    result = run("study", "tiny.yaml", "--report-only")
    assert result.code == 0, result.err
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("tiny/runs/*/*")}
    assert (tmp_path / "out" / "tiny" / "report.md").is_file()


def test_what_is_missing_and_what_failed_is_told(run, config, tmp_path):
    for words in (["--no-report"], [], ["--save"]):
        result = run("study", "tiny.yaml", "--minutes", "1e-9", "--no-progress", *words)
        assert result.code == 0 and "6 runs are missing" in result.err
        assert ("no run has been tested yet" in result.err) == (words != ["--no-report"])
        assert result.json["missing"] == 6 and result.json["rows"] == {}
    assert not [*tmp_path.glob("out/tiny/report*")] and not (tmp_path / "stored.json").exists()
    methods = {"DE": {"method": "DistillationExperts", "search": {"weight": [0.1, 1.0]}}}
    methods = {**CONFIG["methods"], **methods}
    world = {**CONFIG["worlds"]["mf"], "teacher": "ease"}
    (tmp_path / "other.yaml").write_text(
        json.dumps(tiny(name="other", methods=methods, worlds={"mf": world}, seeds=[0]))
    )
    result = run("study", "other.yaml", "--methods", "DE", "--no-progress")
    assert result.code == 1 and "teacher_x" in result.err
    report = (tmp_path / "out" / "other" / "report.md").read_text()
    assert "No student was tested: teacher reaches 0." in report and "**Failed**" in report


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yaml"], "there is no configuration 'none.yaml'"),
        (["tiny.yaml", "--methods", "sof"], "'methods': there is no 'sof', did you mean 'soft'?"),
        (["tiny.yaml", "--seeds", "7"], "'seeds': there is no 7"),
        (["tiny.yaml", "--run", "a", "--verify", "1"], "--run and --verify cannot be given"),
        (["tiny.yaml", "--verify", "1"], "there is neither a study in 'out/tiny' nor a file"),
        (["tiny.yaml", "--minutes", "0"], "'minutes' must be positive"),
        (["tiny.yaml", "--report-only"], "there is no study in 'out/tiny'"),
    ],
)
def test_mistakes_are_told(run, config, words, message):
    result = run("study", *words)
    assert result.code == 2 and message in result.err
