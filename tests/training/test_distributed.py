"""Two processes on one machine give what one gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch is built without"),
]

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, os, sys
from pathlib import Path

import torch

from pyg_kd import RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import SampledSoftmax, Trainer, run
from pyg_kd.transforms import UserSplit

torch.set_num_threads(1)
out, devices = Path(sys.argv[1]), int(sys.argv[2])
rank = int(os.environ.get("LOCAL_RANK", 0))
written = []
save = run.save_checkpoint
run.save_checkpoint = lambda state, path: (written.append(path.parent.name), save(state, path))

data = SyntheticInteractions(num_users=60, num_items=50, num_edges=700)[0]
data, val, _ = UserSplit(val=0.15)(data)
num_edges = data["user", "item"].edge_index.size(1)
results = {}


def fit(name, kind, *, graph=data, seed=1, resume=False, distillations=(), folder=None, **options):
    torch.manual_seed(seed)
    model = kind(graph, dim=6)
    trainer = Trainer(
        # One interaction is left for the last batch: a process has no share in it.
        batch_size=(num_edges - 1) // 2, accelerator="cpu", devices=devices, strategy="ddp",
        progress=False, checkpoint_dir=out / f"{devices}" / (folder or name),
        **{"max_epochs": 4} | options,
    )
    if devices == 1:
        trainer.strategy = "auto"
    history = trainer.fit(
        model, graph, val_data=val, distillations=distillations, resume=resume
    )
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    results[name] = {"model": model.state_dict(), "rows": rows, "best_epoch": history.best_epoch}
    return model


# Adam does not see a factor on all gradients, unless the weights decay.
teacher = fit("bpr", MF, weight_decay=0.3)
fit("softmax", LightGCN, loss=SampledSoftmax(num_negatives=32))
fit("averaged", MF, weight_decay=0.3, average=1.0, warmup=0.2)
fit("short", MF, max_epochs=2, weight_decay=0.3)
fit("continued", MF, folder="short", resume=True, seed=9, weight_decay=0.3)
ranking = RelaxedRankingDistillation(num_interesting=6, num_uninteresting=6)
methods = [(TopologyDistillation(num_groups=4), 1e-3), (ranking, 1e-2)]
graph = extract_knowledge(teacher, data, num_items=25)
student = fit("student", LightGCN, graph=graph, distillations=methods)
results["usable"] = student(data)["user"] @ student(data)["item"].t()
results["written"] = written
torch.save(results, out / f"result-{devices}-{rank}.pt")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results by ``(processes, rank)``, and what was printed."""
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    # What a surrounding launcher has set must not leak in.
    env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    printed = []
    for devices in (1, 2):
        args = [sys.executable, str(script), str(folder), str(devices)]
        done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout + done.stderr)
    pairs = [(1, 0), (2, 0), (2, 1)]
    loaded = {
        p: torch.load(folder / "result-{}-{}.pt".format(*p), weights_only=True) for p in pairs
    }
    return loaded, printed


@pytest.mark.parametrize("name", ["bpr", "softmax", "averaged"])
def test_two_processes_equal_one(results, name):
    one, two = results[0][1, 0][name], results[0][2, 0][name]
    for key, value in one["model"].items():
        torch.testing.assert_close(two["model"][key], value, rtol=1e-3, atol=1e-5)
    assert len(one["rows"]) == len(two["rows"]) == 4
    for a, b in zip(one["rows"], two["rows"], strict=True):
        assert a.keys() == b.keys()
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["recall@20"] == pytest.approx(a["recall@20"], abs=0.02)


@pytest.mark.parametrize("name", ["bpr", "softmax", "averaged", "short", "continued", "student"])
def test_processes_agree(results, name):
    first, second = results[0][2, 0][name], results[0][2, 1][name]
    assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])
    assert (first["rows"], first["best_epoch"]) == (second["rows"], second["best_epoch"])


def test_student_of_two_processes_learns(results):
    rows = results[0][2, 0]["student"]["rows"]
    for name in ("loss", "TopologyDistillation", "RelaxedRankingDistillation"):
        assert all(0 < row[name] < float("inf") for row in rows)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(bool(x.isfinite().all()) for x in results[0][2, 0]["student"]["model"].values())


@pytest.mark.parametrize("process", [(1, 0), (2, 0), (2, 1)])
def test_resume_gives_the_same_bits(results, process):
    whole, continued = results[0][process]["bpr"], results[0][process]["continued"]
    assert all(torch.equal(whole["model"][k], continued["model"][k]) for k in whole["model"])
    assert whole["rows"] == continued["rows"]


def test_only_the_first_process_writes_checkpoints(results):
    expected = ["bpr"] * 4 + ["softmax"] * 4 + ["averaged"] * 4 + ["short"] * 4 + ["student"] * 4
    assert results[0][1, 0]["written"] == results[0][2, 0]["written"] == expected
    assert results[0][2, 1]["written"] == []


def test_model_is_usable_after(results):
    assert results[0][2, 0]["usable"].shape == (60, 50)
    torch.testing.assert_close(results[0][2, 0]["usable"], results[0][2, 1]["usable"])


def test_one_process_warns_and_nothing_else_is_printed(results):
    for printed in results[1]:
        warning, line = printed.splitlines()
        assert "UserWarning: the teacher is no better than its student" in warning
        assert line.strip() == "history = trainer.fit("
