"""The order of the subpackages, and what importing the package costs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Names of the package and of its subpackages are imported when they are first used.
NAMES = "import sys, pyg_kd; print('Trainer' in dir(pyg_kd), {'torch', 'numpy'} & set(sys.modules))"

ROOMS = "import pyg_kd; print(pyg_kd.training.Trainer(), 'models' in dir(pyg_kd))"

HEAVY = ("matplotlib", "pandas", "pyarrow", "lightning_fabric", "networkx")
# PyG itself may load some of these, so only what the package adds counts.
PROBE = f"""
import sys
import torch_geometric.nn, torch_geometric.datasets, torch_geometric.transforms
before = set(sys.modules)
import pyg_kd.distill
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


def test_the_package_alone_loads_nothing() -> None:
    result = _python("-c", NAMES)
    assert result.stdout.split() == ["True", "set()"], result.stderr


@pytest.mark.parametrize("name", ["Trainer", "evaluate", "extract_knowledge", "SoftLabel"])
def test_names_come_when_they_are_asked_for(name: str) -> None:
    code = f"from pyg_kd import {name}; import pyg_kd; print({name}.__name__, pyg_kd.evaluation)"
    result = _python("-c", code)
    assert result.stdout.startswith(f"{name} <module 'pyg_kd.evaluation'"), result.stderr


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


def _imports(root: Path, package: str) -> dict[str, set[str]]:
    """What every module of a package imports of it: at its top, in functions, for types alone."""
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (root / package).rglob("*.py")
    }
    found: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name} has a relative import"
                inside = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {full if full in paths else node.module for full in inside.values()}
        found[name] &= paths.keys() - {name}
    return found


def _circles(imports: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of modules each of which imports all others, if by way of others."""
    reached: dict[str, set[str]] = {}
    for name in imports:
        reached[name], todo = set(), [name]
        while todo:
            new = imports[todo.pop()] - reached[name]
            reached[name] |= new
            todo += new
    return {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in imports
        if name in reached[name]
    }


def test_no_import_circles() -> None:
    circles = [sorted(circle) for circle in _circles(_imports(ROOT, "pyg_kd"))]
    assert not circles, f"modules import each other: {circles}"


@pytest.mark.parametrize(
    "late",
    [
        "from pkg.a import A",
        "def f():\n    from pkg import a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pkg.a",
    ],
)
def test_circles_are_noticed(tmp_path: Path, late: str) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("from pkg.a import A\n")
    (package / "a.py").write_text("import os\nfrom pkg.b import B\n")
    (package / "b.py").write_text("from pkg.c import C\n")
    (package / "c.py").touch()
    assert _circles(_imports(tmp_path, "pkg")) == set()
    (package / "c.py").write_text(late)
    assert _circles(_imports(tmp_path, "pkg")) == {frozenset({"pkg.a", "pkg.b", "pkg.c"})}
