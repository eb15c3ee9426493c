"""The folder of a run: refused, continued, replaced, locked."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from pyg_kd.cli.options import Data
from pyg_kd.cli.pipeline.data import options_of
from pyg_kd.cli.runs import Run, begin


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("user,item\n1,2\n")
    return path


def start(out, source, *, dim=8, overwrite=False, command="train"):
    return begin(str(out), command, {"dim": dim}, [source], overwrite)


def test_a_run_records_what_it_depends_on(tmp_path, source):
    with start(tmp_path / "run", source) as run:
        assert run.record["state"] == "running"
        run.write_config({"dim": 8, "name": "é"})
        run.write_metrics({"test": {"recall@20": 0.1}})
    done = Run.open(tmp_path / "run")
    record = done.record
    assert record["state"] == "complete" and record["command"] == "train"
    assert record["options"] == {"dim": 8} and record["seconds"] >= 0
    assert record["inputs"][str(source)]["bytes"] == source.stat().st_size
    assert len(record["inputs"][str(source)]["sha256"]) == 64
    assert {"python", "pyg_kd", "torch", "numpy"} <= record["versions"].keys()
    assert {"system", "processor", "threads"} <= record["machine"].keys()
    assert done.config == {"dim": 8, "name": "é"}
    assert done.metrics == {"test": {"recall@20": 0.1}}
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "run.json", "config.yaml", "metrics.json",
    }  # fmt: skip


def test_a_complete_run_is_only_replaced_when_asked(tmp_path, source):
    with start(tmp_path / "run", source):
        pass
    with pytest.raises(ValueError, match="holds a complete run: --overwrite replaces it"):
        start(tmp_path / "run", source).__enter__()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with start(tmp_path / "run", source, dim=4, overwrite=True) as run:
        assert run.record["options"] == {"dim": 4}
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_replaced_comes_back_if_nothing_was_trained(tmp_path, source):
    with start(tmp_path / "run", source) as run:
        run.state("model").write_text("old")
        (run.path / "bundle").mkdir()
        (run.path / "bundle" / "manifest.json").write_text("{}")
    before = content(run.path)
    with pytest.raises(ValueError, match="lr"), start(run.path, source, overwrite=True):
        assert not run.state("model").exists()
        raise ValueError("lr")
    assert content(run.path) == before
    with pytest.raises(KeyboardInterrupt), start(run.path, source, overwrite=True):
        run.state("model").write_text("new")
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="lr"), start(run.path, source, dim=4, overwrite=True):
        raise ValueError("lr")
    assert content(run.path) == before
    with start(run.path, source, overwrite=True):
        run.state("model").write_text("new")
    assert content(run.path).keys() == {"run.json", "model.safetensors"}


@pytest.mark.parametrize("moved", [1, 2])
def test_a_run_that_was_killed_while_it_made_room(tmp_path, source, monkeypatch, moved):
    with start(tmp_path / "run", source) as run:
        run.state("model").write_text("old")
        run.write_metrics({"test": {}})
    before, rename, done = content(run.path), Path.rename, []

    def killed(path, target):
        done.append(path)
        if len(done) > moved:
            raise SystemExit
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(SystemExit):
        start(run.path, source, overwrite=True).__enter__()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="holds a complete run"):
        start(run.path, source).__enter__()
    assert content(run.path) == before


def test_a_folder_that_is_no_run_is_never_touched(tmp_path, source):
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="'out' must be an empty folder or a run"):
            start(tmp_path, source, overwrite=overwrite).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


def test_an_interrupted_run_is_continued_with_the_same_options_only(tmp_path, source, capsys):
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "run", source) as run:
        run.state("teacher").write_text("trained")
        raise KeyboardInterrupt
    assert run.record["state"] == "running"
    with pytest.raises(ValueError, match="is not complete: run the command again"):
        Run.open(tmp_path / "run")
    with pytest.raises(ValueError, match=r"other options \(dim was 8, is 4\): --overwrite"):
        start(tmp_path / "run", source, dim=4).__enter__()
    with pytest.raises(ValueError, match="an interrupted run with other command"):
        start(tmp_path / "run", source, command="distill").__enter__()
    with start(tmp_path / "run", source) as run:
        assert run.state("teacher").read_text() == "trained"
    assert "continuing the run" in capsys.readouterr().err
    with start(tmp_path / "run", source, overwrite=True) as run:
        assert not run.state("teacher").exists()


def test_an_input_that_has_changed_is_no_continuation(tmp_path, source):
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "run", source) as run:
        run.state("teacher").write_text("trained")
        raise KeyboardInterrupt
    source.write_text("user,item\n1,3\n")
    with pytest.raises(ValueError, match="an interrupted run with other inputs"):
        start(tmp_path / "run", source).__enter__()


def test_a_run_that_came_to_nothing_leaves_nothing(tmp_path, source):
    with pytest.raises(ValueError, match="wrong"), start(tmp_path / "run", source):
        raise ValueError("wrong")
    with start(tmp_path / "run", source, dim=4):
        pass


def test_two_processes_do_not_share_a_folder(tmp_path, source):
    found = []

    def other():
        try:
            start(tmp_path / "run", source).__enter__()
        except ValueError as error:
            found.append(str(error))

    with start(tmp_path / "run", source):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found == [f"another process is at work in '{tmp_path / 'run'}'"]


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"state": "complete"'])
def test_a_damaged_record(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match="is damaged"):
        Run.open(tmp_path)


@pytest.mark.parametrize("content", ["- 1", "a: [", "\x00"])
def test_a_damaged_configuration(tmp_path, content):
    (tmp_path / "run.json").write_text(json.dumps({"state": "complete"}))
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match="is damaged"):
        _ = Run.open(tmp_path).config


def test_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run: it has no run\.json"):
        Run.open(tmp_path / "nowhere")


def test_a_folder_of_data_is_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options_of(Data("movielens-100k", root="ml"))["root"] == str(tmp_path / "ml")
    assert options_of(Data("movielens-100k"))["root"] is None


def test_inputs_are_found_from_everywhere(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with start(tmp_path / "run", Path(source.name)) as run:
        pass
    assert [*Run.open(run.path).record["inputs"]] == [str(source)]
