"""What the project's files say about each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_pre_commit_formats_as_the_suite_does() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    revision = re.search(r"ruff-pre-commit\s+rev: v(\S+)", hooks)
    pinned = re.search(r"^ruff==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert revision is not None and pinned is not None
    assert revision[1] == pinned[1]


def test_actions_are_pinned_by_commit() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        actions = re.findall(r"uses: (.*)", path.read_text())
        assert actions
        for action in actions:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action


def test_every_dependency_is_imported() -> None:
    declared = re.search(
        r"^dependencies = \[(.*?)^\]",
        (ROOT / "pyproject.toml").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert declared is not None
    names = re.findall(r'^ +"([\w-]+)', declared[1], re.MULTILINE)
    source = "\n".join(path.read_text() for path in (ROOT / "pyg_kd").rglob("*.py"))
    modules = [{"pyyaml": "yaml"}.get(name, name.replace("-", "_")) for name in names]
    missing = [
        module
        for module in modules
        if not re.search(rf"^ *(import|from) {module}\b", source, re.MULTILINE)
        and f'import_module("{module}")' not in source
    ]
    assert len(names) >= 7 and missing == []


def _make(target: str, venv: Path) -> str:
    """What make would run."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    command = ["make", "--dry-run", target, f"VENV={venv}"]
    # Without what a make above hands down, whose tests these may be.
    env = {
        name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"
    }
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return done.stdout


def test_only_the_tests_wait_for_torch_scatter(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    demo, test = _make("demo", venv), _make("test", venv)
    assert "install_scatter" not in demo and ".[demo]" in demo
    assert test.index("install_scatter") < test.index(".[test]")


@pytest.mark.parametrize("order", [("demo", "scatter", "test"), ("scatter", "test", "demo")])
def test_demo_and_tests_do_not_install_over_each_other(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bin/python", ".stamp-torch", *(f".stamp-{target}" for target in order)):
        (tmp_path / name).touch()
    for target in ("demo", "test"):
        assert "install" not in _make(target, tmp_path).replace(str(tmp_path), "")


def _anchors(page: Path) -> set[str]:
    """The anchors GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize(
    "page",
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    ],
    ids=lambda path: path.relative_to(ROOT).with_suffix("").as_posix(),
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]+`", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", prose):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in _anchors(target), link
