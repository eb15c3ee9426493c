from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from pyg_kd.retrieval.latency import LatencyReport, LatencyRow, plot_tradeoff
from pyg_kd.retrieval.latency.report import STAGES, machine

STUDENT = LatencyRow(
    model="student",
    dim=20,
    dtype="int8",
    backend="numpy",
    nbytes=22_000,
    p50=0.25,
    p95=0.5,
    p99=123.4,
    mean=0.3,
    users_per_second=12_345.6,
    stages=dict(zip(STAGES, (0.01, 0.02, 0.03, 0.19), strict=True)),
)
TEACHER = replace(
    STUDENT, model="teacher", dim=200, dtype="float32", nbytes=220_000, p50=1.0,
    users_per_second=1_000.0,
)  # fmt: skip
SETTINGS = {"k": 20, "batch": 1}


def test_table() -> None:
    text = LatencyReport([TEACHER, STUDENT], SETTINGS).table()
    header, teacher, student, note = text.splitlines()
    assert student.split() == [
        "student", "20", "int8", "22,000", "0.25", "0.5", "123", "12,346",
        "0.01", "0.02", "0.03", "0.19",
    ]  # fmt: skip
    # Columns end at the same places.
    for title in ("bytes", "p99 ms", "users/s", "top-k ms"):
        end = header.index(title) + len(title)
        assert all(len(line) == end or line[end] == " " for line in (teacher, student))
        assert all(line[end - 1] != " " for line in (teacher, student))
    assert note == (
        "student: 4 times as fast as the teacher by the median, "
        "12.3 times as many users a second in bulk, 0.1 of the bytes"
    )


def test_what_is_missing_is_a_dash() -> None:
    rows = [replace(STUDENT, users_per_second=None, recall=0.12345), replace(TEACHER, stages={})]
    header, first, second, note = LatencyReport(rows, SETTINGS).table().splitlines()
    assert header.split()[-1] == "Recall@20" and first.split()[-1] == "0.1235"
    assert first.split()[7] == "-" and second.split()[-5:] == ["-"] * 5
    assert "in bulk" not in note
    (lone,) = LatencyReport([STUDENT], SETTINGS).table().splitlines()[1:]
    assert lone.startswith("student")


def test_markdown() -> None:
    lines = LatencyReport([TEACHER, STUDENT], SETTINGS).to_markdown().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert {len(row) for row in cells} == {12}
    assert cells[0][:3] == ["model", "width", "dtype"]
    assert set(cells[1]) == {"---", "---:"}
    assert cells[3][:4] == ["student", "20", "int8", "22,000"]
    assert lines[4] == "" and lines[5].startswith("student: 4 times")


def test_json_holds_everything() -> None:
    report = LatencyReport([TEACHER, STUDENT], SETTINGS)
    found = json.loads(report.to_json())
    assert found == report.to_dict()
    assert LatencyRow(**found["rows"][1]) == STUDENT
    assert found["settings"] == SETTINGS and found["machine"] == machine()
    with pytest.raises(KeyError, match="no row 'other'"):
        report.row("other")


ROWS = [
    replace(TEACHER, recall=0.11),
    replace(STUDENT, model="student int8", recall=0.099),
    replace(STUDENT, model="student", dtype="float32", nbytes=80_000, p50=0.15, recall=0.1),
    replace(STUDENT, model="narrow", dtype="int4", dim=8, nbytes=8_000, p50=0.1, recall=0.02),
]


def test_figure(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    figures = []
    save = matplotlib.Figure.savefig
    monkeypatch.setattr(
        matplotlib.Figure,
        "savefig",
        lambda figure, path, **options: (figures.append(figure), save(figure, path, **options)),
    )
    path = tmp_path / "new" / "tradeoff.png"
    plot_tradeoff(ROWS, path, accuracy="Recall@20", title="A graph")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert [p.name for p in path.parent.iterdir()] == ["tradeoff.png"]
    left, right = figures[0].axes
    for axis, values in ((left, [r.nbytes / 1e6 for r in ROWS]), (right, [r.p50 for r in ROWS])):
        points = {
            line.get_label(): (line.get_xdata()[0], line.get_ydata()[0], line.get_marker())
            for line in axis.lines
            if not line.get_label().startswith("_")
        }
        marks = ["o", "^", "o", "D"]
        wanted = zip([r.model for r in ROWS], values, [r.recall for r in ROWS], marks, strict=True)
        assert points == {name: tuple(rest) for name, *rest in wanted}
        joined = [line for line in axis.lines if line.get_label().startswith("_")]
        assert sorted(len(line.get_xdata()) for line in joined) == [1, 1, 2]
        colors = {line.get_label(): line.get_color() for line in axis.lines}
        assert colors["student"] == colors["student int8"]
        assert len({colors[name] for name in ("student", "teacher", "narrow")}) == 3
        assert _apart(figures[0], axis)
    assert left.get_ylabel() == "Recall@20"
    names = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert sorted(names) == sorted(row.model for row in ROWS)


def _apart(figure: Any, axis: Any) -> bool:
    """Whether at least two tick labels are drawn, and none meets the next one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn = FigureCanvasAgg(figure).get_renderer()
    low, high = axis.get_xlim()
    ticks = zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
    boxes = [label.get_window_extent(drawn) for x, label in ticks if low <= x <= high]
    return len(boxes) >= 2 and all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_figure_without_recall(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"a recall \(got none for \['teacher'\]\)"):
        plot_tradeoff([ROWS[1], TEACHER], tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"a recall \(got none for \[\]\)"):
        plot_tradeoff([], tmp_path / "x.png")


def test_figure_without_matplotlib(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"plot_tradeoff needs Matplotlib: .*pyg_kd\[plot\]"):
        plot_tradeoff(ROWS, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
