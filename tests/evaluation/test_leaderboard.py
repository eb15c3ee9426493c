from __future__ import annotations

import json

import pytest
import torch

from pyg_kd import evaluate
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.evaluation import Leaderboard
from pyg_kd.models import EASE, MF
from pyg_kd.training.history import History
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def split():
    data = SyntheticInteractions(num_users=120, num_items=70, num_edges=2_400)[0]
    return UserSplit(seed=0)(data)


@pytest.fixture
def board(split) -> Leaderboard:
    train, _, test = split
    board = Leaderboard(train, test, k=10)
    torch.manual_seed(0)
    rows = [{"epoch": e, "seconds": 2.0 * e, "recall@10": 0.1 * e} for e in range(3)]
    board.add("teacher", EASE(train))
    board.add("student alone", MF(train, 4), MF(train, 4), history=History(rows))
    board.add("distilled", Halfway(train))
    return board


class Halfway(MF):
    """Scores by popularity."""

    def __init__(self, data) -> None:
        super().__init__(data, 1)
        degree = data["user", "item"].edge_index[1].bincount(minlength=self.num_items)
        with torch.no_grad():
            self.user_embedding.fill_(1.0)
            self.item_embedding.copy_(degree.unsqueeze(1))


def test_rows_are_means_over_seeds(split, board) -> None:
    train, _, test = split
    torch.manual_seed(0)
    found = [evaluate(MF(train, 4), train, test, k=10) for _ in range(2)]
    row = board.rows["student alone"]
    assert row["seeds"] == [one["recall@10"] for one in found]
    for metric in ("recall@10", "ndcg@10"):
        assert row[metric] == pytest.approx(sum(one[metric] for one in found) / 2)
    assert row["width"] == 4 and row["bytes"] == 4 * 4 * 190 and row["s/epoch"] == 2.0
    assert board.rows["teacher"]["width"] is None


def test_the_gap(board) -> None:
    high, low, mine = (
        board.rows[name]["recall@10"] for name in ("teacher", "student alone", "distilled")
    )
    assert high > mine > low
    assert board.gap_closed("distilled") == pytest.approx((mine - low) / (high - low))
    assert (board.gap_closed("teacher"), board.gap_closed("student alone")) == (1.0, 0.0)


def test_no_gap(split) -> None:
    train, _, test = split
    board = Leaderboard(train, test, k=5, metrics=["ndcg"])
    board.add("one", MF(train, 2), size=17)
    assert board.gap_closed("one") is None
    assert str(board).splitlines()[0].split() == [
        "model", "width", "bytes", "ndcg@5", "s/epoch", "gap", "closed",
    ]  # fmt: skip
    assert str(board).splitlines()[1].split()[1:3] == ["2", "17"]


def test_table_and_file(board, tmp_path) -> None:
    lines = str(board).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["teacher", "student alone", "distilled"]
    board.to_json(tmp_path / "rows.json", data="synthetic")
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["data"] == "synthetic"
    assert [row["model"] for row in found["rows"]] == [*board.rows]
    assert found["rows"][2]["gap closed"] == board.gap_closed("distilled")


def test_figure(board, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    board.plot(tmp_path / "figure.png", "three models")
    board.histories.clear()
    board.plot(tmp_path / "no curves.png")
    for path in tmp_path.iterdir():
        assert path.stat().st_size > 10_000


def test_bad_input(split, board) -> None:
    with pytest.raises(ValueError, match=r"'name' must be new .got 'teacher', which has a row"):
        board.add("teacher", MF(split[0], 2))
    with pytest.raises(ValueError, match=r"'models' must hold a model or more .got none for 'x'"):
        board.add("x")
