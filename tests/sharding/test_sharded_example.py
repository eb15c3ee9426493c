"""The example on two processes of torchrun, gone on with by three that it starts itself."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pyg_kd.retrieval import load_student

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("torchrec") is None, reason="TorchRec is not installed: make torchrec"
    ),
]

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "examples" / "sharded_mf.py")


def run(*command: str) -> list[str]:
    """The lines that a command prints."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_torchrun_and_more_processes(tmp_path: Path) -> None:
    options = ["--users", "200", "--epochs", "2", "--quiet", "--out", str(tmp_path)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    first = run(*torchrun, "--nproc-per-node", "2", SCRIPT, *options)
    assert [line.split()[0] for line in first] == ["teacher", "alone", "student", "for"]
    # All has been trained: what is read is what two processes wrote.
    again = run(sys.executable, SCRIPT, *options, "--resume", "--processes", "3")
    assert again == first
    assert len(load_student(tmp_path / "bundle").x_item) == 400
