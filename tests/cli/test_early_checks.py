"""Mistakes about the students are told before the teacher is trained."""

from __future__ import annotations

import pytest

from pyg_kd.cli.pipeline.stages import Stages
from pyg_kd.training import Trainer

QUICK = ["--no-progress", "--threads", 1, "--epochs", 1, "--baseline-epochs", 1]
ONE = ["--teacher", "lightgcn", "--teacher-epochs", 1]

MISTAKES = [
    (["--lr", -1], "'lr' must be positive (got -1.0)"),
    (["--epochs", 0], "'epochs' must be a positive integer (got 0)"),
    (["--batch-size", 0], "'batch_size' must be a positive integer (got 0)"),
    (["--dim", -3], "'dim' must be a positive integer (got -3)"),
    (["--weight-decay", -1], "'weight_decay' must be 0 or more (got -1.0)"),
    (["--num-negatives", 0], "'num_negatives' must be a positive integer (got 0)"),
    (["--warmup", 3], "'warmup' and 'final_lr' are shares"),
    (["--patience", 0], "'patience' must be a positive integer (got 0)"),
    (["--base-weight", -1], "'base_weight' must be 0 or more (got -1.0)"),
    (["--methods", "SoftLabel=-1"], "must be finite and not negative (got -1.0)"),
    (["--methods", "SoftLabel=0"], "nothing would be trained"),
    (["--student-options.foo", 3], "MF has no option 'foo'"),
    (["--student", "ease"], "'student' must be a model that is trained, one of lightgcn, mf,"),
    (["--baseline-training.lr", -1], "the student alone: 'lr' must be positive (got -1)"),
    (["--baseline-epochs", 0], "the student alone: 'epochs' must be a positive integer"),
    (["--num-items", -3], "'num_items' must be"),
]  # fmt: skip
OF_ONE = [
    (["--teacher", "ease", "--methods", "TopologyDistillation=1"], "needs teacher_x, but EASE"),
    (["--teacher", "ease", "--methods", "SoftLabel(target='score')=1"], "needs teacher_x, but"),
    (["--teacher", "cml", "--methods", "SoftLabel(target='score')=1"], "but CML scores otherwise"),
    (["--student", "cml", "--methods", "TopologyDistillation=1", *ONE], "to be served"),
]


@pytest.fixture
def untaught(monkeypatch):
    """Fail where a teacher is made."""

    def refused(*_, **__):
        raise AssertionError("a teacher was trained")

    monkeypatch.setattr(Stages, "teacher", refused)


@pytest.mark.parametrize("command", ["distill", "tune"])
@pytest.mark.parametrize(("words", "message"), [*MISTAKES, *OF_ONE])
def test_mistakes_cost_no_teacher(run, table, tmp_path, untaught, command, words, message):
    result = run(command, table, "--out", tmp_path / "run", *QUICK, *words)
    assert result.code == 2 and message in result.err, result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [[], ONE])
def test_a_device_that_is_missing(run, table, tmp_path, untaught, monkeypatch, words):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = run("distill", table, "--out", tmp_path / "run", "--device", "cuda", *words)
    assert result.code == 2 and "'device' is 'cuda', but PyTorch finds no CUDA" in result.err


def test_a_search_needs_validations(run, table, tmp_path, untaught):
    for words in (["--epochs", 2], ["--baseline-training.evaluate_every", 3, "--epochs", 5]):
        more = ["--baseline-epochs", 2, "--evaluate-every", 3, *words]
        result = run("tune", table, "--out", tmp_path / "run", "--no-progress", *more)
        assert result.code == 2 and "'evaluate_every' must be at most" in result.err
        assert not (tmp_path / "run").exists()


def test_a_run_goes_on_without_progress(run, table, tmp_path, monkeypatch):
    words = ["distill", table, "--out", tmp_path / "run", *ONE, *QUICK[1:]]
    student = Stages.student

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stages, "student", interrupted)
    assert run(*words).code == 130
    monkeypatch.setattr(Stages, "student", student)
    other = run(*words, "--no-progress", "--dim", 3)
    assert other.code == 2 and "other options (dim was None, is 3)" in other.err
    fits, fit = [], Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda *a, **b: fits.append(a) or fit(*a, **b))
    finished = run(*words, "--no-progress")
    assert finished.code == 0 and "continuing the run" in finished.err and len(fits) == 1
