"""The examples run from start to end, on a small synthetic graph."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyg_kd.retrieval import load_student

EXAMPLES = Path(__file__).parent.parent / "examples"
#: Runs a script as ``__main__`` after what comes in place of the braces.
LAUNCH = """
import os, runpy, sys
{}
sys.argv.pop(0)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
#: Importing Matplotlib then raises ``ModuleNotFoundError``.
NO_MATPLOTLIB = "sys.modules['matplotlib'] = None"
#: Every figure also writes where its names and tick labels are drawn, as boxes in pixels.
BOXES = """
import json
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

def savefig(figure, path, save=Figure.savefig, **options):
    save(figure, path, **options)
    drawn = FigureCanvasAgg(figure).get_renderer()
    boxes = []
    for axis in figure.axes:
        ticks = axis.get_xticklabels(which="both") + axis.get_yticklabels(which="both")
        texts = [t for t in axis.texts + ticks if t.get_text() and t.get_visible()]
        boxes.append([[t.get_text(), *t.get_window_extent(drawn).extents] for t in texts])
    limits = [axis.get_ylim() for axis in figure.axes]
    path.with_suffix(".boxes").write_text(json.dumps([boxes, limits]))

Figure.savefig = savefig
"""
SHORT = ["--epochs", "1", "--teacher-epochs", "1", "--teacher-dim", "8", "--student-dim", "4"]

pytestmark = pytest.mark.slow


def run(name: str, out: Path, *options: str, first: str = "") -> tuple[dict, str]:
    """Run an example; what it wrote to its file and what it printed."""
    command = [sys.executable, "-c", LAUNCH.format(first), EXAMPLES / name]
    command += ["--dataset", "synthetic", "--out", out, *options]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    return json.loads((out / "comparison.json").read_text()), done.stdout


def overlaps(boxes: list) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share some area."""
    return [
        (a, b)
        for i, (a, *p) in enumerate(boxes)
        for b, *q in boxes[:i]
        if p[0] < q[2] and q[0] < p[2] and p[1] < q[3] and q[1] < p[3]
    ]


def test_gowalla(tmp_path):
    pytest.importorskip("matplotlib")
    found, printed = run("gowalla.py", tmp_path, *SHORT, first=BOXES)
    names = ["teacher", "student alone", "FTD + RRD", "ensemble", "compressed"]
    assert [row["model"] for row in found["rows"]] == names
    assert all(0 < row["recall@20"] < 1 for row in found["rows"])
    assert [row["width"] for row in found["rows"]] == [8, 4, 4, None, 4]
    written = {"knowledge.safetensors", "comparison.png", "bundle"}
    assert written <= {path.name for path in tmp_path.iterdir()}
    (left, right), limits = json.loads((tmp_path / "comparison.boxes").read_text())
    assert overlaps(left) == overlaps(right) == []
    assert {text for text, *_ in right} > {*names, "0.08"}  # a tick at a size
    assert limits[0] == limits[1] and limits[0][0] == 0
    check_lists(tmp_path, printed)


def check_lists(folder: Path, printed: str) -> None:
    """Two users' lists are printed as the bundle ranks."""
    index = load_student(folder / "bundle")
    assert index.dtype == "int8"
    shown = re.findall(
        r"user (\d+): (\d+) of 10 in common\nteacher +student\n((?:.+\n){10})", printed
    )
    assert [int(user) for user, *_ in shown] == [0, index.num_users // 2]
    for user, common, lines in shown:
        pairs = re.findall(r"([= ]) item (\d+) +([= ]) item (\d+)\n", lines)
        teacher, student = [p[1] for p in pairs], [p[3] for p in pairs]
        assert len(pairs) == 10 and len(set(teacher) & set(student)) == int(common)
        for mark, item, other in [(p[0], p[1], student) for p in pairs]:
            assert (mark == "=") == (item in other)
        assert [int(item) for item in student] == index.search([int(user)], 10)[0][0].tolist()


def test_gowalla_without_matplotlib(tmp_path):
    found, printed = run("gowalla.py", tmp_path, *SHORT, "--methods", "rrd", first=NO_MATPLOTLIB)
    assert [row["model"] for row in found["rows"]][2] == "RRD"
    names = {"knowledge.safetensors", "comparison.json", "bundle"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert printed.splitlines()[-1].endswith('pip install "pyg_kd[plot]"')


def test_overlaps():
    boxes = [["a", 0, 0, 2, 1], ["b", 1, 0.5, 3, 2], ["c", 2, 0, 4, 0.5]]
    assert overlaps(boxes) == [("b", "a")]


def test_hetcomp(tmp_path):
    pytest.importorskip("matplotlib")
    options = ["--teachers", "MF", "CML", "EASE", "--teacher-epochs", "4", "--teacher-dim", "8"]
    options += ["--epochs", "6", "--jobs", "1"]
    found, _ = run("hetcomp.py", tmp_path, *options)
    names = [row["model"] for row in found["rows"]]
    teachers = ["teacher MF", "teacher CML", "teacher EASE"]
    assert names[:6] == [*teachers, "ensemble", "fused by validation", "student alone"]
    assert names[8:10] == ["RCE-KD from the fused", "SoftLabel from the fused"]
    assert names[-4:] == ["HetComp", "- dynamic construction", "- adaptive transfer", "- both"]
    assert all(0 < row[metric] < 1 for row in found["rows"] for metric in ("R@50", "N@10"))
    epochs, pointers, distances = zip(*found["progress"], strict=True)
    assert epochs == (1, 6) and all(0 <= p <= 3 for step in pointers for p in step)
    assert all(step[2] == 3 for step in pointers)  # in closed form: there is one state
    assert all(0 < d < 1 for step in distances for d in step)
    assert (tmp_path / "progress.png").stat().st_size > 10_000
    # Teachers that were trained are not trained again, and the numbers need no Matplotlib.
    before = (tmp_path / "teacher-MF.safetensors").stat().st_mtime_ns
    (tmp_path / "progress.png").unlink()
    again, printed = run("hetcomp.py", tmp_path, *options, first=NO_MATPLOTLIB)
    assert (tmp_path / "teacher-MF.safetensors").stat().st_mtime_ns == before
    assert again["curves"] == found["curves"] and again["rows"] == found["rows"]
    assert not (tmp_path / "progress.png").exists()
    assert printed.splitlines()[-1].endswith('pip install "pyg_kd[plot]"')
