"""Measuring two checkouts in turn."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

#: A script whose steps note in one file whose turn it was.
SCRIPT = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from against import Clock, answer, steps
import package
print("noise")
for turn in steps(package):
    clock = Clock()
    if package.broken:
        sys.exit(3)
    with open(sys.argv[1], "a") as log:
        log.write(package.name)
    answer({{**clock.read(), "CPU seconds": 0.5}})
"""


@pytest.fixture
def against(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import against

    return against


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


def checkout(folder, name, broken=False):
    (folder / name / "package").mkdir(parents=True)
    (folder / name / "package" / "__init__.py").write_text(f"name = {name!r}\n{broken = }\n")
    return folder / name


def test_every_checkout_has_its_turn_first_and_last(against, script, tmp_path):
    roots, log = [checkout(tmp_path, name) for name in "ab"], tmp_path / "log"
    both = [against.Checkout(root, script, [str(log)]) for root in roots]
    found = against.in_turn(both, 3)
    assert log.read_text() == "ab" + "ba" + "ab" + "ba"
    assert [len(rows) for rows in found] == [4, 4]
    assert all(row["seconds"] >= 0 and row["peak GB"] > 0 for rows in found for row in rows)
    assert [one.process.returncode for one in both] == [0, 0]


def test_a_budget_asks_for_more_steps_but_not_for_ever(against, script, tmp_path):
    for budget, steps in ((2.0, 1 + 4), (1e9, 1 + 10)):
        root = checkout(tmp_path / str(budget), "a")
        one = against.Checkout(root, script, [str(tmp_path / "log")])
        assert len(against.in_turn([one], 1, budget)[0]) == steps


def test_a_process_that_fails_is_named(against, script, tmp_path):
    one = against.Checkout(checkout(tmp_path, "a", broken=True), script, [str(tmp_path / "log")])
    with pytest.raises(RuntimeError, match=r"script\.py .*ended with 3"):
        against.in_turn([one], 1)


def test_the_package_must_come_from_the_checkout(against, script, tmp_path):
    elsewhere = checkout(tmp_path, "a")
    (tmp_path / "package").symlink_to(elsewhere / "package")
    empty = tmp_path / "empty"
    empty.mkdir()
    # Beside the script, the folder of which comes before the checkout.
    one = against.Checkout(empty, script, [str(tmp_path / "log")])
    with pytest.raises(RuntimeError, match=r"imported from .*, not from .*empty"):
        one.ready()


def test_a_version_tells_whether_the_package_differs_from_its_commit(against, tmp_path):
    def git(*command):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True)

    (tmp_path / "pyg_kd").mkdir()
    source = tmp_path / "pyg_kd" / "a.py"
    source.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    clean = against.version(tmp_path)
    assert clean.isalnum()
    source.write_text("2")
    assert against.version(tmp_path) == clean + "+"
