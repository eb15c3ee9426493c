"""Ids in files: what an integer is, and rows without a user."""

from __future__ import annotations

import gzip
import io
import json
import sys

import numpy as np
import pandas
import pytest

from pyg_kd.cli.pairs import MISSING, as_ids, find, read_pairs
from pyg_kd.datasets import from_interactions
from pyg_kd.retrieval import Ids, TopKIndex, save_index
from tests.parquets import damaged_parquet

INTEGERS = ["7", " 7 ", "+7", "7.0", "7.", "07", "7.000"]
OTHERS = ["1_2", "7.5", "x", "", "7.0.0", "0x7", "٧", "7e0", "9" * 5000, "--7"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The bundle of an index of 12 users and 9 items by number."""
    path, rng = tmp_path_factory.mktemp("numbers") / "bundle", np.random.default_rng(0)
    x_user, x_item = rng.normal(size=(12, 3)), rng.normal(size=(9, 3))
    ids = {"user_ids": np.arange(12) + 1, "item_ids": np.arange(9)}
    index = TopKIndex(x_user, x_item, popularity=np.ones(9), **ids)
    save_index(index, path)
    return path


@pytest.mark.parametrize("kind", ["integer", "position"])
def test_integers(kind):
    ids = Ids(np.arange(13)) if kind == "integer" else Ids(size=13)
    assert as_ids(INTEGERS, ids) == [7] * len(INTEGERS)
    assert as_ids(OTHERS, ids) == [None] * len(OTHERS)
    assert as_ids([7, 7.0, 7.5, None, float("nan")], ids) == [7, 7, None, None, None]
    assert find(["-0", "12.0", "-1", "1_2"], ids).tolist() == [0, 12, -1, -1]


@pytest.mark.parametrize("text", ["7.0", " 7 ", "+7", "07", "7."])
def test_what_training_reads_as_an_integer_is_found_again(tmp_path, text):
    path = tmp_path / "interactions.csv"
    path.write_text(f"user,item\n{text},1\n8,2\n")
    raw = from_interactions(path)["user"].raw_id
    ((user, _), _) = read_pairs(path, "user", "item")
    assert find([user], Ids(raw.numpy())).tolist() == [raw.tolist().index(7)]


@pytest.mark.parametrize("others", [["100000", "7"], ["1E5", "100000", "7.0", "07"], ["1_2"]])
def test_ids_are_found_as_training_reads_them(tmp_path, others):
    items = ["12", "100000", "0100000", "1e5", "1E5", "7", "7.0", "\u06637", "\xa07", *others]
    path = tmp_path / "interactions.csv"
    path.write_text("user,item\n" + "".join(f"1,{item}\n" for item in others))
    raw = from_interactions(path)["item"].raw_id
    path.write_text("user,item\n" + "".join(f"1,{item}\n" for item in items))
    ids = Ids(raw if isinstance(raw, list) else raw.numpy(), name="item")
    rows = find([item for _, item in read_pairs(path, "user", "item")], ids).tolist()
    if isinstance(raw, list):
        assert rows == [raw.index(item) if item in raw else -1 for item in items]
    else:
        assert rows == [-1, 1, 1, -1, -1, 0, 0, -1, -1, 1, 0]


@pytest.mark.parametrize("value", sorted(MISSING))
def test_a_row_without_a_user(tmp_path, value):
    path = tmp_path / "history.csv"
    path.write_text(f"user,item\n\na,1\n{value},2\nb,\n")
    with pytest.raises(ValueError, match=r"line 4 of '.*csv' has no 'user'"):
        list(read_pairs(path, "user", "item", whole_users=True))
    assert [user for user, _ in read_pairs(path, "user", "item")] == ["a", value, "b"]
    with pytest.raises(ValueError, match="missing values"):  # which training refuses as well
        from_interactions(path)


@pytest.mark.parametrize("value", [None, float("nan"), ""])
def test_a_row_without_a_user_in_parquet(tmp_path, value):
    path = tmp_path / "history.parquet"
    users = ["NA", value] if isinstance(value, str) else [1.0, value]
    pandas.DataFrame({"who": users, "item": [1, 2]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"row 2 of '.*parquet' has no 'who'"):
        list(read_pairs(path, "who", "item", whole_users=True))
    assert len(list(read_pairs(path, "who", "item"))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item\na,1\n\nSmith, John,0087\n", r"line 4 of .* must have 2 fields \(got 3\)"),
        ("user,item\na\n", r"line 2 of .* must have 2 fields \(got 1\)"),
        ('user,item\na,1\n"b,2\nc,3\n', r"line 3 of .* is malformed \(.*end of data\)"),
        ('user,item\na,"1"x\n', r"line 2 of .* is malformed"),
    ],
)
def test_text_that_training_refuses(tmp_path, text, message):
    path = tmp_path / "history.csv"
    path.write_text(text)
    for read in (lambda: list(read_pairs(path, "user", "item")), lambda: from_interactions(path)):
        with pytest.raises(ValueError, match=message):
            read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1\n\nb\n", r"line 3 of .* must have 2 fields \(got 1\)"),
        ("a\n", r"must have a column 1 \(got 1 in all\)"),
    ],
)
def test_ragged_text_without_a_header(tmp_path, text, message):
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        list(read_pairs(path, "0", "1"))


def test_a_column_named_twice(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("user,item,item\na,1,2\n")
    with pytest.raises(ValueError, match=r"history\.csv' must have one column 'item'"):
        list(read_pairs(path, "user", "item"))


def test_text_without_lines(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("")
    assert list(read_pairs(path, "0", "1")) == []
    with pytest.raises(ValueError, match="must have a column 'user'"):
        list(read_pairs(path, "user", "item"))


@pytest.mark.parametrize("damage", ["cut", "page"])
def test_damaged_parquet(tmp_path, damage):
    path = tmp_path / "history.parquet"
    damaged_parquet(path, cut=damage == "cut")
    with pytest.raises(ValueError, match=r"history.parquet' is not a readable Parquet file \(.+\)"):
        list(read_pairs(path, "user", "item"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"history.parquet"):
        list(read_pairs(path, "user", "item"))


def test_histories_without_a_user(run, bundle, tmp_path):
    path = tmp_path / "history.tsv.gz"
    path.write_bytes(gzip.compress(b"501\t3\nNA\t4\n"))
    words = ["recommend", bundle, "--history", path, "--user", 0, "--item", 1, "--k", 2]
    for unknown in ("error", "skip", "popular"):
        refused = run(*words, "--unknown", unknown)
        assert refused.code == 2 and refused.out == ""
        assert f"line 2 of '{path}' has no '0'" in refused.err
    path.write_bytes(gzip.compress(b"501\t3\n502.0\tNA\n"))
    lists = run(*words, "--unknown", "popular").out.splitlines()
    assert [json.loads(line)["user"] for line in lists] == [501, 502]


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        ("error", "user 2 of standard input must be known (got 'abc'): --unknown skip or"),
        ("popular", "user 2 of standard input must be integer (got 'abc'), as all users are"),
    ],
)
def test_unknown_users_from_standard_input(run, bundle, monkeypatch, unknown, message):
    monkeypatch.setattr(sys, "stdin", io.StringIO("3\nabc\n"))
    refused = run("recommend", bundle, "--users", "-", "--k", 2, "--unknown", unknown)
    assert refused.code == 2 and message in refused.err and refused.out == ""


def test_users_from_standard_input_that_are_skipped(run, bundle, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("3\nabc\n1_2\n12.0\n"))
    result = run("recommend", bundle, "--users", "-", "--k", 2, "--unknown", "skip")
    assert [json.loads(line)["user"] for line in result.out.splitlines()] == [3, 12]
