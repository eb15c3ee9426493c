"""What an installed package must do; `make package` runs this in a clean environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import files, version
from pathlib import Path

import pyg_kd


def check_contents() -> None:
    """It comes from where packages are installed, complete and with nothing else."""
    assert "site-packages" in str(pyg_kd.__file__), pyg_kd.__file__
    assert pyg_kd.__version__ == version("pyg_kd") != "0+unknown"
    names = {str(path) for path in files("pyg_kd") or ()}
    assert "pyg_kd/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]
    page = {name for name in names if name.startswith("pyg_kd/retrieval/service/page/static/")}
    assert {Path(name).suffix for name in page} >= {".html", ".js", ".css", ".svg"}


def check_commands() -> None:
    """The command line is there."""
    command = Path(sys.executable).with_name("pyg-kd")
    said = subprocess.run([command, "--version"], check=True, capture_output=True, text=True)
    assert said.stdout == f"pyg-kd {pyg_kd.__version__}\n", said.stdout


def check_student() -> None:
    """A student is distilled, saved, loaded and asked."""
    from pyg_kd import compress, evaluate
    from pyg_kd.datasets import SyntheticInteractions
    from pyg_kd.retrieval import load_student, save_student
    from pyg_kd.transforms import UserSplit

    data = SyntheticInteractions(None, num_users=200, num_items=100, num_edges=3_000)[0]
    train, val, test = UserSplit(seed=0)(data)
    student, _ = compress(train, val, dim=8, epochs=5, progress=False)
    assert evaluate(student, train, test, k=20)["recall@20"] > 0.1
    with tempfile.TemporaryDirectory() as folder:
        save_student(student, f"{folder}/bundle", graph=train, dtype="int8")
        items, scores = load_student(f"{folder}/bundle").search([3, 14], k=5)
        assert items.shape == scores.shape == (2, 5)


if __name__ == "__main__":
    check_contents()
    check_commands()
    check_student()
    print(f"pyg_kd {pyg_kd.__version__} is installed and works")
