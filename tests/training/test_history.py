from __future__ import annotations

import json
import math
import os
import random
import sys

import pytest

from pyg_kd.training import History

ROWS = [
    {"epoch": 0, "loss": 2.0, "seconds": 0.1},
    {"epoch": 1, "loss": 1.5, "seconds": 0.1, "recall@20": 0.3},
    {"epoch": 2, "loss": 1.0, "seconds": 0.1},
    {"epoch": 3, "loss": 0.5, "seconds": 0.1, "recall@20": 0.4},
]


def test_columns():
    history = History(ROWS)
    assert history["loss"] == [2.0, 1.5, 1.0, 0.5]
    assert history["recall@20"] == [0.3, 0.4]
    assert history.columns == ["epoch", "loss", "seconds", "recall@20"]
    assert (len(history), list(history)) == (4, ROWS)


def test_missing_column_names_those_there_are():
    with pytest.raises(KeyError, match=r"no epoch has a value 'ndcg@10'; there are \['epoch'"):
        History(ROWS)["ndcg@10"]


def test_empty():
    history = History()
    assert (len(history), history.columns, history.best_epoch) == (0, [], None)
    assert repr(history) == "History(0 epochs, best_epoch=None)"


def test_histories_share_no_rows():
    first, second = History(), History()
    first.rows.append({"epoch": 0})
    assert len(second) == 0


@pytest.fixture
def path(tmp_path):
    history = History(ROWS)
    history.best_epoch = 3
    history.to_json(tmp_path / "history.json")
    return tmp_path / "history.json"


def test_json(path):
    read = json.loads(path.read_text())
    assert (read["best_epoch"], read["rows"]) == (3, ROWS)
    again = History.from_json(path)
    assert (again.rows, again.best_epoch) == (ROWS, 3)
    assert repr(again) == "History(4 epochs, best_epoch=3)"
    assert [p.name for p in path.parent.iterdir()] == ["history.json"]


def test_json_of_odd_numbers(tmp_path):
    history = History([{"epoch": 0, "loss": 1e-300, "x": math.inf, "y": -0.1}])
    history.to_json(tmp_path / "history.json")
    assert History.from_json(tmp_path / "history.json").rows == history.rows


def test_json_may_be_formatted_and_may_lack_a_checksum(path):
    read = json.loads(path.read_text())
    path.write_text(json.dumps(read, indent=2, sort_keys=True))
    assert History.from_json(path).rows == ROWS
    del read["sha256"]
    path.write_text(json.dumps(read))
    assert History.from_json(path).best_epoch == 3


def test_damaged_json(path):
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(200):
        place, broken = rng.randrange(8 * len(whole)), bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"' is (truncated, or|damaged: its|not a)"):
            History.from_json(path)
        path.write_bytes(whole[: rng.randrange(len(whole))])
        with pytest.raises(ValueError, match=r"history.json' is truncated, or not a history"):
            History.from_json(path)


@pytest.mark.parametrize(
    "content",
    [
        "[1, 2]",
        "3",
        "{}",
        '{"best_epoch": 3}',
        '{"best_epoch": null, "rows": [], "more": 1}',
        '{"best_epoch": null, "rows": {"loss": 1.0}}',
        '{"best_epoch": null, "rows": [{"loss": "1.0"}]}',
        '{"best_epoch": null, "rows": [3]}',
        '{"best_epoch": -1, "rows": []}',
        '{"best_epoch": "3", "rows": []}',
        "[" * 100_000,
    ],
    ids=lambda content: content[:50],
)
def test_foreign_json(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ValueError, match=r"other\.json' is .*not a history"):
        History.from_json(tmp_path / "other.json")


def test_full_disk_leaves_the_old_file(path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        History(ROWS[:1]).to_json(path)
    assert History.from_json(path).rows == ROWS
    assert [p.name for p in path.parent.iterdir()] == ["history.json"]


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'pyg_kd\[plot\]'"):
        History(ROWS).plot("loss")


def test_plot_places_values_at_their_epochs():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    figure, ax = pyplot.subplots()
    assert History(ROWS).plot("recall@20", ax, label="student") is ax
    (line,) = ax.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([2, 4], [0.3, 0.4])
    assert (line.get_label(), ax.get_xlabel(), ax.get_ylabel()) == ("student", "epoch", "recall@20")
    History(ROWS).plot("loss", ax)
    assert ax.lines[1].get_label() == "loss"
    pyplot.close(figure)
