from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.datasets import from_interactions
from pyg_kd.graph import interactions
from pyg_kd.typing import INTERACTS, ITEM, USER

WHO = ["eve", "bob", "eve", "amy", "eve"]
WHAT = [30, 10, 10, 20, 30]
WHEN = [5, 6, 7, 8, 4]


def _check(data: HeteroData, timed: bool = True) -> None:
    assert data[USER].raw_id == ["amy", "bob", "eve"]
    assert data[ITEM].raw_id.tolist() == [10, 20, 30]
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == (3, 3)
    assert data[INTERACTS].edge_index.tolist() == [[0, 1, 2, 2], [1, 0, 0, 2]]
    if timed:
        assert data[INTERACTS].time.tolist() == [8, 6, 7, 5]
    else:
        assert "time" not in data[INTERACTS]
    assert interactions(data).num_users == 3


def test_mapping() -> None:
    table = {"user": WHO, "item": torch.tensor(WHAT), "time": np.array(WHEN), "other": None}
    _check(from_interactions(table, time="time"))
    _check(from_interactions(table), timed=False)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_files_and_frames(tmp_path: Path, suffix: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"who": WHO, "when": WHEN, "what": WHAT})
    _check(from_interactions(frame, user="who", item="what", time="when"))
    path = tmp_path / f"table.{suffix}"
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False)
    _check(from_interactions(path, user="who", item="what", time="when"))
    _check(from_interactions(str(path), user="who", item="what"), timed=False)


@pytest.mark.parametrize("kind", [np.array, torch.tensor, tuple, list])
def test_edge_index(kind: Any) -> None:
    edges = kind([[9, 5, 9], [2, 2, 2]])
    data = from_interactions(edges, time=torch.tensor([1, 2, 3]))
    assert data[USER].raw_id.tolist() == [5, 9]
    assert data[INTERACTS].edge_index.tolist() == [[0, 1], [0, 0]]
    assert data[INTERACTS].time.tolist() == [2, 3]
    assert "time" not in from_interactions(edges)[INTERACTS]


@pytest.mark.parametrize(
    ("table", "options", "error", "message"),
    [
        ({"user": [1]}, {}, ValueError, r"'item' must be one of .* \['user'\] \(got 'item'\)"),
        ({"user": [1], "item": [1]}, {"time": "t"}, ValueError, r"'time' must be one of .*got 't'"),
        ({"user": [1], "item": [1]}, {"item": "user"}, ValueError, "must be different columns"),
        ({"user": [], "item": []}, {}, ValueError, "'table' must hold at least one interaction"),
        ({"user": [1, 2], "item": [1]}, {}, ValueError, r"\(got {'user': 2, 'item': 1}"),
        ({"user": [1.0, float("nan")], "item": [1, 2]}, {}, ValueError, "'user' .* no missing"),
        (torch.zeros(3, 5), {}, ValueError, r"must have the shape \[2, E\] \(got \[3, 5\]\)"),
        (torch.rand(2, 5), {}, ValueError, r"'users' must hold .* whole numbers below 2\*\*24"),
        ({"user": 5, "item": [1]}, {}, TypeError, r"'user' must be an array or a list \(got int"),
        (([1], [2], [3]), {}, ValueError, r"pair \(users, items\) \(got 3 entries\)"),
        (([1], [2]), {"time": "t"}, TypeError, "'time' must hold the timestamps"),
        (([1], [2]), {"time": [1, 2]}, ValueError, "same length"),
        (7, {}, TypeError, r"'table' must be a path, .* \(got int\)"),
        ("table.xlsx", {}, ValueError, r".csv, .csv.gz, .dat, .* \(got 'table.xlsx'"),
        ("table.parquet.gz", {}, ValueError, r"ends in one of .* \(got 'table.parquet.gz'"),
        ("absent.csv", {}, FileNotFoundError, r"existing file \(got 'absent.csv'"),
    ],
)
def test_bad_tables(
    table: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        from_interactions(table, **options)


def test_gap_in_integers_makes_floats_which_count_as_integers() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"user": [7, 5, None, 5], "item": [1, 2, 3, 2]})
    with pytest.raises(ValueError, match=r"'user' must have no missing values \(got 1\)"):
        from_interactions(frame)
    data = from_interactions(frame.dropna())
    assert data[USER].raw_id.tolist() == [5, 7]
    assert data[INTERACTS].edge_index.tolist() == [[0, 1], [1, 0]]


def test_arrow_table() -> None:
    pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"user": WHO, "item": WHAT, "time": WHEN})
    for arrow in (table, table.to_batches()[0]):
        _check(from_interactions(arrow, time="time"))
    with pytest.raises(
        ValueError, match=r"one of the columns \['user', 'item', 'time'\] .*got 't'"
    ):
        from_interactions(table, time="t")


def test_column_named_twice() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([[1, 2, 3]], columns=["user", "item", "item"])
    with pytest.raises(ValueError, match=r"'item' must name one column, not several of"):
        from_interactions(frame)
