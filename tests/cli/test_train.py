from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pyg_kd.cli.options import Data
from pyg_kd.cli.pipeline.data import read_graphs
from pyg_kd.datasets import from_interactions
from pyg_kd.evaluation import evaluate
from pyg_kd.models import MF, LightGCN
from pyg_kd.models.spectral import start_from_spectrum
from pyg_kd.retrieval import load_student
from pyg_kd.training import CatalogueSoftmax, Trainer, lightgcn_teacher
from pyg_kd.training.recipes import LIGHTGCN
from pyg_kd.transforms import KCore, LeaveOneOut, TemporalSplit, UserSplit

QUICK = ["--no-progress", "--threads", 1, "--k", "5,10", "--epochs", 3]


def by_hand(table, dim=64, **options):
    """The same, by the library alone."""
    train, val, test = UserSplit(0.1, 0.1, 0)(from_interactions(table))
    model, trainer = lightgcn_teacher(train, dim=dim, max_epochs=3, progress=False, **options)
    trainer.fit(model, train, val_data=val)
    return model, evaluate(model, train, test, (5, 10), ("recall", "ndcg"))


def test_the_command_does_what_the_library_does(run, table, tmp_path):
    result = run("train", table, "--out", tmp_path / "run", "--batch-size", 16, *QUICK)
    assert result.code == 0
    model, metrics = by_hand(table, batch_size=16)
    assert result.json["test"]["model"] == metrics
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == result.json
    state = load_file(tmp_path / "run" / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value)
    history = json.loads((tmp_path / "run" / "model.history.json").read_text())
    assert len(history["rows"]) == 3
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_configuration_repeats_the_run(run, trained, tmp_path):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    # What was left open is filled in.
    assert config["lr"] == 0.02 and config["dim"] == 64 and config["batch_by"] == "user"
    assert config["loss"]["CatalogueSoftmax"]["balance"] == 0.5
    assert config["model_options"]["start"] == "spectral"
    again = run("train", "--config", trained / "config.yaml", "--out", tmp_path / "run")
    assert again.code == 0
    assert again.json == json.loads((trained / "metrics.json").read_text())
    names = {path.name for path in trained.glob("*.safetensors")}
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes()


def test_what_is_printed_as_configuration_is_read_as_one(run, table, tmp_path):
    printed = run("train", table, "--out", "x", "--dim", 8, "--no-progress", "--print-config")
    path = tmp_path / "config.yaml"
    path.write_text(printed.out)
    assert run("train", "--config", path, "--print-config").out == printed.out
    assert yaml.safe_load(printed.out)["dim"] == 8


def test_the_bundle_has_seen_everything_and_the_vectors_only_training(trained, table):
    index = load_student(trained / "bundle")
    data = from_interactions(table)
    assert index.users.take(np.arange(60)).tolist() == data["user"].raw_id
    assert index.items.take(np.arange(40)).tolist() == data["item"].raw_id.tolist()
    edges = data["user", "item"].edge_index
    ptr, col = index.seen.pattern
    assert np.array_equal(np.repeat(np.arange(60), np.diff(ptr)), edges[0])
    assert np.array_equal(col, edges[1])
    graphs = read_graphs(Data(str(table)))
    model = LightGCN(graphs.train, 64, **LIGHTGCN)
    model.load_state_dict(load_file(trained / "model.safetensors"))
    expected = model(graphs.train)["user"].detach().numpy()
    assert np.allclose(index.x_user.block(0, 60), expected)
    assert (
        index.info["metrics"] == json.loads((trained / "metrics.json").read_text())["test"]["model"]
    )


def test_what_is_served_may_be_trained_on_everything(run, table, tmp_path):
    result = run("train", table, "--out", tmp_path / "run", "--refit", "--dim", 4, *QUICK)
    assert result.code == 0, result.err
    index = load_student(tmp_path / "run" / "bundle")
    graph = read_graphs(Data(str(table))).all
    model = LightGCN(graph, 4, **LIGHTGCN)
    model.load_state_dict(load_file(tmp_path / "run" / "model-again.safetensors"))
    assert np.allclose(index.x_user.block(0, 60), model(graph)["user"].detach().numpy())
    assert run("evaluate", tmp_path / "run" / "bundle").code == 2


def test_another_loss_or_batches_of_interactions_are_trained_as_students_are(run, table, tmp_path):
    train, val, _ = UserSplit(0.1, 0.1, 0)(from_interactions(table))
    for place, words in enumerate((["--loss", "bpr"], ["--batch-by", "interaction"])):
        out = tmp_path / str(place)
        assert run("train", table, "--out", out, "--dim", 4, *words, *QUICK).code == 0
        torch.manual_seed(0)
        model = LightGCN(train, 4)
        options = {"loss": "bpr"} if words[1] == "bpr" else {}
        trainer = Trainer(max_epochs=3, batch_size=64, lr=0.01, seed=0, progress=False, **options)
        trainer.fit(model, train, val_data=val)
        state = load_file(out / "model.safetensors")
        assert torch.equal(state["item_embedding"], model.item_embedding)


def test_a_loss_of_a_class_and_a_start(run, table, tmp_path):
    config = tmp_path / "config.yaml"
    loss = "loss: {CatalogueSoftmax: {temperature: 0.3}}"
    config.write_text(f"{loss}\nbatch_by: user\nbatch_size: 8\n")
    words = ["--model", "mf", "--model-options.start", "spectral", "--epochs", 2, "--dim", 4]
    out = tmp_path / "run"
    result = run("train", table, "--out", out, "--config", config, *words, "--no-progress")
    assert result.code == 0, result.err
    train, val, _ = UserSplit(0.1, 0.1, 0)(from_interactions(table))
    torch.manual_seed(0)
    model = start_from_spectrum(MF(train, 4), train)
    recipe = {"lr": 3e-3, "weight_decay": 1e-3, "batch_size": 8, "batch_by": "user", "seed": 0}
    loss = CatalogueSoftmax(temperature=0.3)
    trainer = Trainer(max_epochs=2, loss=loss, progress=False, **recipe)
    trainer.fit(model, train, val_data=val)
    state = load_file(out / "model.safetensors")
    torch.testing.assert_close(state["item_embedding"], model.item_embedding.detach())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model-options.start", "warm"], "'start' must be one of ('spectral',) (got 'warm')"),
        (["--model", "neumf", "--model-options.start", "spectral"], "needs a model of two tables"),
        (["--loss", "{Softmax: {}}"], "there is no loss 'Softmax'"),
        (["--loss", "{CatalogueSoftmax: {temprature: 1}}"], "temprature"),
        (["--loss", "{CatalogueSoftmax: {temperature: 0}}"], "'temperature' must be"),
    ],
)
def test_wrong_starts_and_losses(run, table, tmp_path, words, message):
    result = run("train", table, "--out", tmp_path / "run", *words, *QUICK, "--dim", 4)
    assert result.code == 2 and message in result.err


@pytest.mark.parametrize(
    ("words", "transform"),
    [
        (["--split", "leave-one-out"], LeaveOneOut(0)),
        (["--split", "leave-one-out", "--time", "time"], LeaveOneOut(0, by_time=True)),
        (["--split", "temporal", "--time", "time", "--val", 0.2], TemporalSplit(0.2, 0.1)),
        (["--split-seed", 3, "--test", 0.3], UserSplit(0.1, 0.3, 3)),
        (["--k-core", 8], lambda data: UserSplit(0.1, 0.1, 0)(KCore(8)(data))),
    ],
)
def test_splits(run, table, tmp_path, words, transform):
    result = run("train", table, "--out", tmp_path / "run", *words, *QUICK, "--dim", 4)
    assert result.code == 0, result.err
    timed = "--time" in words
    train, val, test = transform(from_interactions(table, time="time" if timed else None))
    sizes = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert sizes["users"] == train["user"].num_nodes
    assert sizes["training interactions"] == train["user", "item"].edge_index.size(1)
    assert sizes["validation interactions"] == val["user", "item"].edge_label_index.size(1)
    assert sizes["test interactions"] == test["user", "item"].edge_label_index.size(1)
    held_out = sizes["validation interactions"] + sizes["test interactions"]
    assert sizes["interactions"] == sizes["training interactions"] + held_out


@pytest.mark.parametrize(
    "model", ["mf", "ngcf", "cml", "neumf", "multvae", "itemae", "gfcf", "ease"]
)
def test_every_model(run, table, tmp_path, model):
    result = run("train", table, "--out", tmp_path / "run", "--model", model, "--dim", 8, *QUICK)
    assert result.code == 0, result.err
    assert 0 < result.json["test"]["model"]["recall@10"] <= 1
    again = run("evaluate", tmp_path / "run", "--no-progress")
    assert again.json["metrics"]["model"] == result.json["test"]["model"]


def test_a_file_without_a_header_line(run, table, tmp_path):
    path = tmp_path / "plain.tsv"
    path.write_text(table.read_text().partition("\n")[2].replace(",", "\t"))
    words = ["--user", 0, "--item", 1, "--dim", 4, *QUICK]
    first = run("train", path, "--out", tmp_path / "a", *words)
    assert first.code == 0, first.err
    assert first.json == run("train", table, "--out", tmp_path / "b", "--dim", 4, *QUICK).json


def test_nothing_is_held_out(run, table, tmp_path):
    words = ["--val", 0, "--test", 0, *QUICK]
    result = run("train", table, "--out", tmp_path / "run", *words)
    assert result.code == 0, result.err
    assert result.json == {"test": {"model": {}}, "validation": {"model": {}}}


def test_users_with_too_few_interactions(run, tmp_path):
    (tmp_path / "few.csv").write_text("user,item\na,1\nb,2\nb,3\n")
    result = run("train", tmp_path / "few.csv", "--out", tmp_path / "run", "--dim", 2, *QUICK)
    assert result.code == 0, result.err
    assert "warning: users have too few interactions to hold any out (--val 0.1)" in result.err
    assert "(--test 0.1)" in result.err
    quiet = run("train", tmp_path / "few.csv", "--out", tmp_path / "b", "--val", 0, "--test", 0)
    assert "too few" not in quiet.err


def test_an_interrupted_run_continues_to_the_same_bits(run, table, tmp_path, monkeypatch):
    words = ["--batch-size", 64, "--dim", 8, *QUICK]
    whole = run("train", table, "--out", tmp_path / "whole", *words)
    from pyg_kd.training.run import Run

    train_epoch = Run.train_epoch

    def interrupted(self, progress):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(self, progress)

    monkeypatch.setattr(Run, "train_epoch", interrupted)
    stopped = run("train", table, "--out", tmp_path / "run", *words)
    assert stopped == (130, "", stopped.err) and stopped.err.endswith("pyg-kd: interrupted\n")
    assert (tmp_path / "run" / "checkpoints" / "model" / "last.pt").exists()
    assert run("evaluate", tmp_path / "run").code == 2
    monkeypatch.undo()
    other = run("train", table, "--out", tmp_path / "run", *words, "--lr", 0.1)
    assert other.code == 2 and "lr was None, is 0.1" in other.err
    finished = run("train", table, "--out", tmp_path / "run", *words)
    assert finished.code == 0 and "continuing the run" in finished.err
    assert finished.json == whole.json
    for name in ("model.safetensors", "metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_killed_process_continues_to_the_same_bits(run, table, tmp_path):
    words = ["train", table, "--epochs", 40, "--patience", 40, "--batch-size", 16, "--dim", 4]
    words = [str(word) for word in [*words, "--no-progress", "--threads", 1]]
    command = [sys.executable, "-m", "pyg_kd.cli", *words, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "run" / "checkpoints" / "model" / "last.pt"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finished = run(*words, "--out", tmp_path / "run")
    assert finished.code == 0 and "continuing the run" in finished.err
    assert run(*words, "--out", tmp_path / "whole").json == finished.json
    for name in ("model.safetensors", "metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "who"], "'user' must be one of the columns ['user', 'item', 'time']"),
        (["--split", "temporal"], "'split' temporal needs 'time', the column of the times: --time"),
        (["--seed", 2**70], f"'seed' must be an integer from 0 to 4294967295 (got {2**70})"),
        (["--split-seed", -1], "'split_seed' must be an integer from 0 to 4294967295 (got -1)"),
        (["--k-core", 500], "'data' must have a core"),
        (
            ["--model-options.depth", 3],
            "LightGCN has no option 'depth': it has",
        ),
        (["--dim", 0], "'dim' must be a positive integer (got 0)"),
        (["--metric", "speed@3"], "'metric' must look like 'recall@20'"),
        (["--k", 0], "'k' must be a positive integer (got 0)"),
        (["--metrics", "speed"], "'metrics' must be some of"),
        (["--threads", 0], "'threads' must be a positive integer (got 0)"),
        (["--lr", 0], "'lr' must be positive (got 0.0)"),
    ],
)
def test_mistakes_leave_nothing_behind(run, table, tmp_path, words, message):
    result = run("train", table, "--out", tmp_path / "run", "--epochs", 1, *words)
    assert result.code == 2 and message in result.err and "Traceback" not in result.err
    assert not (tmp_path / "run").exists()
