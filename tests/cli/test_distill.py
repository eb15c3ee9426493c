from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pyg_kd import SoftLabel, compress
from pyg_kd.cli.options import Data
from pyg_kd.cli.pipeline import models
from pyg_kd.cli.pipeline.data import read_graphs
from pyg_kd.datasets import from_interactions
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import LightGCN
from pyg_kd.retrieval import load_student
from pyg_kd.training import Trainer, lightgcn_teacher
from pyg_kd.transforms import UserSplit

QUICK = ["--no-progress", "--threads", 1, "--k", "5,10", "--epochs", 3, "--baseline-epochs", 3]
SINGLE = ["--teacher", "lightgcn", "--student", "lightgcn", *QUICK, "--teacher-epochs", 3]
RECIPE = {"batch_by": "user", "base_weight": 0.0, "schedule": "cosine", "warmup": 0.05}
LABELS = {
    "num_listed": 150,
    "temperature": [8.0, 40.0],
    "mixture": [0.3, 0.7],
    "own": "mask",
    "share": 1.0,
}


def cells(out, name):
    """The line of a model in the table."""
    (line,) = [line for line in out.splitlines() if line.startswith(name + "  ")]
    return line[len(name) :].split()


def test_the_command_does_what_the_library_does(run, table, tmp_path):
    words = ["--teacher-dim", 16, "--dim", 4, "--batch-size", 32, "--lr", 0.01, *SINGLE]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 0, result.err
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["methods"] == {"SoftLabel": {"weight": 1.0, **LABELS}}
    assert {name: config[name] for name in RECIPE} == RECIPE

    train, val, test = UserSplit(0.1, 0.1, 0)(from_interactions(table))
    options = {"max_epochs": 3, "seed": 0, "progress": False}

    def fitted(dim, graph, distillations=(), **more):
        torch.manual_seed(0)
        model = LightGCN(graph, dim)
        trainer = Trainer(**options, lr=0.01, **more)
        trainer.fit(model, graph, val_data=val, distillations=distillations)
        return model

    def measured(model):
        return evaluate(model, train, test, (5, 10), ("recall", "ndcg"))

    teacher, trainer = lightgcn_teacher(train, dim=16, max_epochs=3, progress=False)
    trainer.fit(teacher, train, val_data=val)
    graph = extract_knowledge(teacher, train, num_items=20)
    soft = [(SoftLabel(**LABELS), 1.0)]
    student = fitted(4, graph, soft, batch_size=32, **RECIPE)
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert found["teacher"] == measured(teacher)
    assert found["student"] == measured(student)
    assert found.keys() == {"most popular", "teacher", "student alone", "student"}
    shown = cells(result.out, "student")
    assert shown == ["4", "1,600", *(f"{value:.4f}" for value in found["student"].values())]


def test_by_default_it_does_what_compress_does(run, table, tmp_path):
    words = ["--no-progress", "--threads", 1, "--no-baseline", "--epochs", 30, "--k", 10]
    result = run("distill", table, "--out", tmp_path / "run", "--dim", 6, *words)
    assert result.code == 0, result.err
    train, val, _ = UserSplit(0.1, 0.1, 0)(from_interactions(table))
    student, report = compress(train, val, dim=6, epochs=30, progress=False)
    state = load_file(tmp_path / "run" / "student.safetensors")
    assert torch.equal(state["item_embedding"], student.item_embedding)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["methods"]["SoftLabel"]["target"] == "score"
    kept = json.loads((tmp_path / "run" / "teacher.report.json").read_text())
    assert kept["weights"] == [list(pair) for pair in report.weights]
    values = [row["value"] for row in kept["rows"]]
    assert values == [row.value for row in report.rows[2:-1]]
    shown = cells(result.out, "teacher")
    assert shown[:2] == ["-", f"{report.rows[-2].bytes:,}"]


def test_an_ensemble_of_names(run, table, tmp_path):
    out, words = tmp_path / "run", ["--teacher", "ease+als", *QUICK]
    result = run("distill", table, "--out", out, *words)
    assert result.code == 0, result.err
    assert "pyg-kd: teacher: 1 " not in result.out  # what it is made of is told on standard error
    kept = json.loads((out / "teacher.report.json").read_text())
    assert [name for name, _ in kept["weights"]] == ["ease", "als"]
    assert kept["factors"] == {"name": "MF", "dim": 40}
    measured = run("evaluate", out, "--no-progress").json["metrics"]
    written = json.loads((out / "metrics.json").read_text())["test"]
    assert measured["teacher"] == written["teacher"]
    assert measured["student"] == written["student"]
    assert load_student(out / "teacher").dim == 40
    exported = run("export", out, tmp_path / "wide", "--format", "bundle", "--model", "teacher")
    assert exported.code == 0 and load_student(tmp_path / "wide").dim == 40
    repeated = run("reproduce", out)
    assert repeated.code == 0 and repeated.json["same"]


def test_lists_of_a_model_elsewhere(run, table, trained, tmp_path):
    bundle, lists = tmp_path / "bundle", tmp_path / "lists.csv"
    words = ["export", trained, bundle, "--format", "bundle", "--model", "model"]
    assert run(*words).code == 0
    assert run("recommend", bundle, "--k", 15, "--out", lists, "--no-progress").code == 0
    out = tmp_path / "run"
    result = run("distill", table, "--out", out, "--teacher", f"{lists}+als", *QUICK)
    assert result.code == 0, result.err
    kept = json.loads((out / "teacher.report.json").read_text())
    assert [name for name, _ in kept["weights"]] == ["given lists", "als"]
    assert str(lists) in json.loads((out / "run.json").read_text())["inputs"]
    repeated = run("reproduce", out)
    assert repeated.code == 0 and repeated.json["same"]
    lists.write_text(lists.read_text().replace("u1,", "u9999,", 1))
    changed = run("reproduce", out)
    assert changed.code == 2 and "has changed since" in changed.err
    wrong = run("distill", table, "--out", tmp_path / "x", "--teacher", lists, *QUICK)
    assert wrong.code == 2 and "u9999" in wrong.err


def test_an_ensemble_without_test_interactions(run, table, tmp_path):
    words = ["--teacher", "als", "--test", 0, *QUICK]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 0, result.err
    assert load_student(tmp_path / "run" / "teacher").dim == 40


def test_an_ensemble_without_vectors(run, table, tmp_path):
    out = tmp_path / "run"
    result = run("distill", table, "--out", out, "--teacher", "kernel_ridge", *QUICK)
    assert result.code == 0, result.err
    assert not (out / "teacher").exists()
    assert run("latency", out, "--requests", 5, "--warmup", 1, "--no-progress").code == 0
    refused = run("export", out, tmp_path / "x", "--format", "bundle", "--model", "teacher")
    assert refused.code == 2 and "has no vectors, only lists" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "als+bert"], "'teacher' must join names out of kernel_ridge, "),
        (["--teacher-dim", 3], "'teacher_dim' is an option of one teacher"),
        (["--teacher", "als", "--teacher-epochs", 3], "'teacher_epochs' is an option of one"),
        (["--methods", "TopologyDistillation=1"], "TopologyDistillation, which needs teacher_x"),
    ],
)
def test_mistakes_about_an_ensemble(run, table, tmp_path, words, message):
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 2 and message in result.err
    assert not (tmp_path / "run").exists()


def test_the_gap(distilled):
    found = json.loads((distilled / "metrics.json").read_text())
    test = found["test"]
    for name, closed in found["gap closed"].items():
        teacher, alone, student = (
            test[model][name] for model in ("teacher", "student alone", "student")
        )
        assert teacher > alone and closed == pytest.approx((student - alone) / (teacher - alone))


def test_popularity_is_a_row(distilled, table):
    graphs = read_graphs(Data(str(table)))
    counts = torch.bincount(graphs.train["user", "item"].edge_index[1], minlength=40).tolist()
    seen = {u: set() for u in range(60)}
    for user, item in graphs.test["user", "item"].edge_index.t().tolist():
        seen[user].add(item)
    hits = {}
    for user, item in graphs.test["user", "item"].edge_label_index.t().tolist():
        order = sorted(set(range(40)) - seen[user], key=lambda i: (-counts[i], i))[:10]
        hits.setdefault(user, []).append(item in order)
    recall = sum(sum(found) / len(found) for found in hits.values()) / len(hits)
    found = json.loads((distilled / "metrics.json").read_text())
    assert found["test"]["most popular"]["recall@10"] == pytest.approx(recall)


def test_the_bundle(distilled):
    index = load_student(distilled / "bundle")
    config = yaml.safe_load((distilled / "config.yaml").read_text())
    assert index.dim == config["dim"] == 8 and index.dtype == "float32"
    assert index.info["teacher"]
    items, scores = index.search(["u3"], k=5)
    assert items.shape == (1, 5) and (scores[0, :-1] >= scores[0, 1:]).all()


@pytest.mark.parametrize("dtype", ["float16", "int8", "int4"])
def test_precisions(run, table, tmp_path, dtype):
    words = ["--dtype", dtype, "--no-baseline", *QUICK]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 0, result.err
    assert "student alone" not in result.out and "gap closed" not in result.out
    index = load_student(tmp_path / "run" / "bundle")
    assert index.dtype == dtype and index.info["precision"]
    assert not (tmp_path / "run" / "alone.safetensors").exists()


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ("TopologyDistillation(mode='full')=1e-4,RelaxedRankingDistillation(num_uninteresting=5,"
         "num_interesting=5)=0.3",
         {"batch_by": None, "base_weight": None}),
        ("DualCorrection(num_ranked=15)=0.01",
         {"base_weight": None}),
        ("SoftLabel(num_listed=10)=1.0,HintRegression=1e-2",
         {**RECIPE,
          "methods": {"SoftLabel": {"weight": 1.0, **LABELS, "num_listed": 10},
                      "HintRegression": {"weight": 0.01}}}),
        ("SoftLabel(own_weight=0.3)=1.0",
         {**RECIPE, "methods": {"SoftLabel": {"weight": 1.0, "own_weight": 0.3}}}),
        ("SoftLabel(temperature=9)=1.0",
         {"methods": {"SoftLabel": {"weight": 1.0, "temperature": 9, "own": "mask",
                                    "share": 1.0}}}),
    ],
)  # fmt: skip
def test_methods(run, table, tmp_path, methods, expected):
    result = run("distill", table, "--out", tmp_path / "run", "--methods", methods, *SINGLE)
    assert result.code == 0, result.err
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert {name: config[name] for name in expected} == expected
    names = json.loads((tmp_path / "run" / "student.history.json").read_text())["rows"][0]
    for method in config["methods"]:
        assert method in names


def test_options_from_yaml(run, table, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"interactions: {table}\nstudent: mf\ndim: 4\nmethods:\n"
        "  SoftLabel: {weight: 1e0, num_listed: 10, own_weight: 3e-1}\n"
    )
    out = tmp_path / "run"
    result = run("distill", "--config", path, "--out", out, "--dim", 6, *QUICK)
    assert result.code == 0, result.err
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["dim"] == 6 and config["student"] == "mf"
    assert config["methods"]["SoftLabel"] == {"weight": 1.0, "own_weight": 0.3, "num_listed": 10}
    assert config["student_options"] == {"init_std": 0.1}


def test_a_teacher_that_is_a_run(run, table, trained, tmp_path):
    words = ["--teacher", trained, *QUICK]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["teacher"]
    assert found == json.loads((trained / "metrics.json").read_text())["test"]["model"]
    assert not (tmp_path / "run" / "teacher.safetensors").exists()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert str(trained / "model.safetensors") in record["inputs"]
    again = run("evaluate", tmp_path / "run", "--no-progress")
    assert again.json["metrics"]["teacher"] == found

    other = run("distill", table, "--out", tmp_path / "other", "--split-seed", 1, *words)
    assert other.code == 2 and "was trained on other interactions or another split" in other.err
    assert (trained / "model.safetensors").exists()
    same = run("distill", table, "--out", trained, "--overwrite", *words)
    assert same.code == 2 and "'out' must not be the teacher's folder" in same.err
    assert (trained / "model.safetensors").exists()
    wrong = run("distill", table, "--out", tmp_path / "other", "--teacher", "bert")
    assert (
        wrong.code == 2
        and "'teacher' must be a run, ensemble, names joined by + out of kernel_ridge, "
        in wrong.err
    )


def test_a_folder_of_the_name_of_a_teacher_is_not_taken_for_one(run, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ease", "ensemble", "als"):
        (tmp_path / name).mkdir()
    result = run("distill", table, "--out", "run", "--teacher", "ease", "--no-baseline", *QUICK)
    assert result.code == 0, result.err
    assert run("evaluate", "run", "--no-progress").code == 0


def test_singular_vectors_are_computed_once(run, table, tmp_path, monkeypatch):
    calls = []
    start = models.start_from_spectrum
    monkeypatch.setattr(models, "start_from_spectrum", lambda *m: calls.append(m) or start(*m))
    words = ["--teacher", "ease", "--no-baseline", "--student-options.start", "spectral", *QUICK]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 0 and len(calls) == 1, result.err
    words[-len(QUICK) :] = ["--student", "neumf", "--no-bundle", *QUICK]
    refused = run("distill", table, "--out", tmp_path / "other", *words)
    assert refused.code == 2 and "needs a model of two tables" in refused.err
    assert len(calls) == 1 and not (tmp_path / "other" / "teacher.json").exists()


def test_a_closed_form_teacher(run, table, tmp_path):
    result = run("distill", table, "--out", tmp_path / "run", "--teacher", "ease", *QUICK)
    assert result.code == 0, result.err
    again = run("evaluate", tmp_path / "run", "--no-progress")
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert again.json["metrics"]["teacher"] == found["test"]["teacher"]


def test_a_run_of_a_closed_form_teaches(run, table, tmp_path):
    trained = run("train", table, "--out", tmp_path / "ease", "--model", "ease", "--no-progress")
    assert trained.code == 0 and "no bundle: scores of ease are not inner" in trained.err
    words = ["--teacher", tmp_path / "ease", "--no-baseline", *QUICK]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 0, result.err
    again = run("evaluate", tmp_path / "run", "--no-progress").json["metrics"]["teacher"]
    assert again["recall@10"] == trained.json["test"]["model"]["recall@10"]


@pytest.mark.parametrize("teacher", ["ensemble", "ease+als"])
def test_an_ensemble_needs_validation(run, table, tmp_path, teacher):
    words = ["--teacher", teacher, "--val", 0, *QUICK]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 2 and "give --val, or more of them, or one model" in result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("teacher", ["lightgcn", "ease", "run", "ease+als"])
def test_what_is_served_may_be_trained_on_everything(run, table, trained, tmp_path, teacher):
    name = trained if teacher == "run" else teacher
    words = ["--teacher", name, "--refit", "--no-baseline", "--no-teacher-bundle", *QUICK]
    words += ["--student", "lightgcn", "--dim", 8]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 0, result.err
    without = run("distill", table, "--out", tmp_path / "other", *words, "--no-refit")
    assert result.out == without.out  # what is measured never saw the test
    history = json.loads((tmp_path / "run" / "student.history.json").read_text())
    again = json.loads((tmp_path / "run" / "student-again.history.json").read_text())
    assert len(again["rows"]) == history["best_epoch"] + 1
    index = load_student(tmp_path / "run" / "bundle")
    model = LightGCN(graph := read_graphs(Data(str(table))).all, 8)
    model.load_state_dict(load_file(tmp_path / "run" / "student-again.safetensors"))
    assert np.allclose(index.x_item.block(0, 40), model(graph)["item"].detach().numpy())
    refused = run("evaluate", tmp_path / "run" / "bundle")
    assert refused.code == 2 and "was trained on the test interactions as well" in refused.err
    assert run("evaluate", tmp_path / "run", "--no-progress").code == 0
    repeated = run("reproduce", tmp_path / "run")
    assert repeated.code == 0 and repeated.json["same"]


def test_options_of_the_other_trainings(run, table, tmp_path):
    words = ["--teacher-training.batch_size", 100, "--baseline-training.lr", 0.5, *SINGLE]
    assert run("distill", table, "--out", tmp_path / "run", *words).code == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    teacher = config["teacher_training"]
    assert teacher["lr"] == 0.02 and teacher["batch_size"] == 100 and teacher["batch_by"] == "user"
    assert config["baseline_training"] == {"lr": 0.5, "batch_size": 64}
    words = ["--teacher", "lightgcn", "--baseline-training.loss", "{Softmax: {}}"]
    assert "there is no loss 'Softmax'" in run("distill", table, "--out", "x", *words).err
    words = ["--teacher", "lightgcn", "--teacher-training.rate", 1]
    wrong = run("distill", table, "--out", tmp_path / "x", *words)
    assert (
        wrong.code == 2 and "'teacher_training' has no option 'rate': it has average, " in wrong.err
    )


def test_doubts(run, table, tmp_path):
    words = [
        "--teacher",
        "mf",
        "--teacher-dim",
        2,
        "--teacher-epochs",
        1,
        "--methods",
        "HintRegression=1e-9",
    ]
    words += ["--no-progress", "--epochs", 40, "--teacher-options.init_std", 1e-9, "--dim", 16]
    result = run("distill", table, "--out", tmp_path / "run", *words)
    assert result.code == 0
    assert "warning: the teacher is no better than the student alone (validation" in result.err
    assert all(line.startswith("pyg-kd: ") for line in result.err.splitlines() if "warning" in line)


def test_an_interrupted_run_keeps_what_is_trained(run, table, tmp_path, monkeypatch):
    whole = run("distill", table, "--out", tmp_path / "whole", *QUICK)
    from pyg_kd.cli.pipeline.stages import Stages

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stages, "student", interrupted)
    assert run("distill", table, "--out", tmp_path / "run", *QUICK).code == 130
    monkeypatch.undo()
    trained, fit = [], Trainer.fit

    def counted(self, *args, **options):
        trained.append(self)
        return fit(self, *args, **options)

    monkeypatch.setattr(Trainer, "fit", counted)
    finished = run("distill", table, "--out", tmp_path / "run", *QUICK)
    assert finished.code == 0 and len(trained) == 1  # teacher and student alone are read
    assert finished.out == whole.out
    for name in ("student.safetensors", "metrics.json", "config.yaml"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "SoftLabels=1"], "there is no method 'SoftLabels', did you mean SoftLabel?"),
        (["--methods", "SoftLabel(num_listed=0)=1"], "'num_listed' must be a positive integer"),
        (["--methods", "SoftLabel(num_listed=0.5)=1"], "'num_listed' must be a positive integer"),
        (["--methods", "HetComp=1"], "HetComp is used from Python"),
        (["--student", "neumf"], "inner product"),
    ],
)
def test_mistakes(run, table, tmp_path, words, message):
    result = run("distill", table, "--out", tmp_path / "run", *words, *QUICK, "--no-baseline")
    assert result.code == 2 and message in result.err
