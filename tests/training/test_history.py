from __future__ import annotations

import json

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


def test_json(tmp_path):
    history = History(ROWS)
    history.best_epoch = 3
    history.to_json(tmp_path / "history.json")
    read = json.loads((tmp_path / "history.json").read_text())
    assert read == {"best_epoch": 3, "rows": ROWS}
    assert repr(history) == "History(4 epochs, best_epoch=3)"
    again = History.from_json(tmp_path / "history.json")
    assert (again.rows, again.best_epoch) == (ROWS, 3)
    (tmp_path / "other.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"other\.json' holds no history"):
        History.from_json(tmp_path / "other.json")


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
