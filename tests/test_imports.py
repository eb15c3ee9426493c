"""The order of the subpackages, and what importing the package costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ROOMS = "import pyg_kd; print(pyg_kd.training.Trainer(), 'models' in dir(pyg_kd))"

HEAVY = ("matplotlib", "pandas", "pyarrow", "lightning_fabric")
# PyG itself may load some of these, so only what the package adds counts.
PROBE = f"""
import sys
import torch_geometric.nn, torch_geometric.datasets, torch_geometric.transforms
before = set(sys.modules)
import pyg_kd
print(*[name for name in {HEAVY!r} if name in set(sys.modules) - before])
"""


def _python(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(cwd)}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )


def test_subpackages_are_attributes() -> None:
    result = _python("-c", ROOMS)
    assert result.stdout.split() == ["Trainer()", "True"], result.stderr
    result = _python("-c", "import pyg_kd; pyg_kd.utils")
    assert "module 'pyg_kd' has no attribute 'utils'" in result.stderr


def _lint_imports(cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    config = str(ROOT / "setup.cfg")
    return _python("-c", code, "--config", config, "--no-cache", cwd=cwd)


def test_subpackages_import_downwards() -> None:
    pytest.importorskip("importlinter")
    result = _lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("room", "other"),
    [("functional", "training"), ("training", "evaluation"), ("distill", "models")],
)
def test_contract_notices_a_wrong_import(tmp_path: Path, room: str, other: str) -> None:
    pytest.importorskip("importlinter")
    package = tmp_path / "pyg_kd"
    for path in (ROOT / "pyg_kd").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            (package / path.name).mkdir(parents=True)
            (package / path.name / "__init__.py").touch()
    for module in (ROOT / "pyg_kd").glob("*.py"):
        (package / module.name).touch()
    assert _lint_imports(tmp_path).returncode == 0
    (package / room / "__init__.py").write_text(f"import pyg_kd.{other}\n")
    result = _lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"pyg_kd.{room} is not allowed to import pyg_kd.{other}" in result.stdout


def test_import_is_light() -> None:
    result = _python("-c", PROBE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
