"""The examples run from start to end, on a small synthetic graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.slow


def run(name: str, out: Path, *options: str) -> dict:
    """Run an example; what it wrote down."""
    command = [sys.executable, EXAMPLES / name, "--dataset", "synthetic", "--out", out, *options]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    return json.loads((out / "comparison.json").read_text())


def test_gowalla(tmp_path):
    options = ["--epochs", "1", "--teacher-epochs", "1", "--teacher-dim", "8", "--student-dim", "4"]
    found = run("gowalla.py", tmp_path, *options)
    assert [row["model"] for row in found["rows"]] == ["teacher", "student alone", "distilled"]
    assert all(0 < row["recall@20"] < 1 for row in found["rows"])
    written = {"knowledge.safetensors", "student.safetensors", "comparison.png"}
    assert written <= {path.name for path in tmp_path.iterdir()}


def test_hetcomp(tmp_path):
    options = ["--teachers", "MF", "CML", "EASE", "--teacher-epochs", "4", "--teacher-dim", "8"]
    options += ["--epochs", "6", "--jobs", "1"]
    found = run("hetcomp.py", tmp_path, *options)
    names = [row["model"] for row in found["rows"]]
    teachers = ["teacher MF", "teacher CML", "teacher EASE"]
    assert names[:5] == [*teachers, "ensemble of them", "student alone"]
    assert names[-4:] == ["HetComp", "- dynamic construction", "- adaptive transfer", "- both"]
    assert all(0 < row[metric] < 1 for row in found["rows"] for metric in ("R@50", "N@10"))
    epochs, pointers, distances = zip(*found["progress"], strict=True)
    assert epochs == (1, 6) and all(0 <= p <= 3 for step in pointers for p in step)
    assert all(step[2] == 3 for step in pointers)  # in closed form: there is one state
    assert all(0 < d < 1 for step in distances for d in step)
    assert (tmp_path / "progress.png").stat().st_size > 10_000
    # Teachers that were trained are not trained again.
    before = (tmp_path / "teacher-MF.safetensors").stat().st_mtime_ns
    run("hetcomp.py", tmp_path, *options)
    assert (tmp_path / "teacher-MF.safetensors").stat().st_mtime_ns == before
