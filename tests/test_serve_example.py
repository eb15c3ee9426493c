"""The example that ends with a request to a running service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyg_kd.retrieval import load_student

SCRIPT = Path(__file__).parent.parent / "examples" / "serve.py"

pytestmark = pytest.mark.slow


def run(out: Path, *options: str, modules: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the example; files in ``modules`` go before installed packages."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    if modules is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(modules), env.get("PYTHONPATH", "")])
    command = [sys.executable, SCRIPT, "--dataset", "synthetic", "--epochs", "1", "--out", out]
    return subprocess.run(
        [*map(str, command), *options], capture_output=True, text=True, env=env, timeout=300
    )


def lists(printed: str) -> dict[str, list[int]]:
    """The items listed below each heading."""
    found = re.findall(r"\n(.+):\n((?:  item \d+\n)+)", printed)
    return {heading: [int(item) for item in re.findall(r"\d+", items)] for heading, items in found}


def test_service(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC, student: Recall@20 0." in done.stdout
    index = load_student(tmp_path / "bundle")
    recall = index.info["precision"]["recall"]
    assert index.dtype == "int8" and 0.05 < recall["float32"] < recall["int8"] + 0.05
    assert load_student(tmp_path / "teacher").dim == 64
    known, history, new, asked = lists(done.stdout).items()
    assert known == ("for user 0", index.search([0], k=5)[0][0].tolist())
    assert new[1] == index.search_history(history[1], k=5)[0][0].tolist()
    assert len(set(known[1])) == len(set(new[1])) == 5
    assert re.fullmatch(r'POST http://127.0.0.1:\d+/recommend \{"user": 0, "k": 5\}', asked[0])
    assert asked[1] == known[1]
    assert done.stdout.endswith("the service stopped with exit code 0\n")


def test_missing_packages_are_named(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "starlette.py").write_text("raise ImportError('hidden', name='starlette')")
    done = run(tmp_path / "out", modules=modules)
    assert done.returncode == 1
    assert len(lists(done.stdout + "\n")) == 3  # all that needs no service
    assert "pip install 'pyg_kd[serve]'" in done.stderr
    assert done.stderr.endswith("the service did not start\n")
