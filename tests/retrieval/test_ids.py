from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.retrieval.ids import Ids, UnknownId

INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=30)
TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), unique=True, max_size=30)


@given(st.one_of(INTEGERS, TEXTS), st.data())
def test_look_up_is_that_of_a_dictionary(values: list[object], data: st.DataObject) -> None:
    ids = Ids(values)
    ids = Ids.from_arrays(ids.kind, ids.arrays(), len(values))
    rows = {value: row for row, value in enumerate(values)}
    other = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.floats(), st.booleans())
    asked = data.draw(st.lists(st.one_of(st.sampled_from(values or [0]), other)))
    # True equals 1 in a dictionary, and 1.0 too: no id is a bool or a float here.
    expected = [rows.get(v, -1) if type(v) in (int, str) else -1 for v in asked]
    assert ids.find(asked).tolist() == expected
    assert ids.take(np.arange(len(values))).tolist() == values


@given(st.lists(st.integers(-5, 12)))
def test_positions(asked: list[int]) -> None:
    ids = Ids(size=8)
    assert ids.find(asked).tolist() == [v if 0 <= v < 8 else -1 for v in asked]
    assert ids.find(np.array(asked, np.int32)).tolist() == ids.find(asked).tolist()


@pytest.mark.parametrize("count", [3, 3000])
def test_padding(count: int) -> None:
    rows = np.arange(count).reshape(-1, 1) - 1
    assert Ids([7 * n for n in range(count)]).take(rows)[:3].tolist() == [[-1], [0], [7]]
    texts = Ids([f"t{n}" for n in range(count)])
    assert texts.take(rows)[:3].tolist() == [[None], ["t0"], ["t1"]]
    assert texts.take(np.array([-1, 0])).tolist() == [None, "t0"]
    assert Ids([]).take(np.array([[-1]])).tolist() == [[-1]]


def test_array_dtypes() -> None:
    ids = Ids(np.array([5, 3, 9], np.uint8))
    assert ids.find(np.array([9, 2**64 - 1], np.uint64)).tolist() == [2, -1]
    assert ids.find(np.array([9.0])).tolist() == [-1]
    assert Ids(np.array(["a", "bc"])).find(np.array(["bc", "x"])).tolist() == [1, -1]
    assert ids.find(9).tolist() == [2] and Ids(["ab"]).find("ab").tolist() == [0]


def test_texts_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyg_kd.retrieval.ids._hash", lambda value: np.uint64(len(value)))
    ids = Ids(["aa", "b", "cc", "dd"])
    assert ids.find(["dd", "aa", "ee", "b"]).tolist() == [3, 0, -1, 1]


def test_an_unknown_id_is_named() -> None:
    with pytest.raises(UnknownId, match=r"'users' must be known user ids, .* strings .got 7"):
        Ids(["a"], name="user").rows(["a", 7], "users")
    with pytest.raises(UnknownId, match=r"rows 0..2 .got '\\ud800'"):
        Ids(size=3).rows(["\ud800"], "items")
    assert Ids(["a"]).find(["\ud800"]).tolist() == [-1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 1], "item ids must be distinct .got 1 twice"),
        (["x", "y", "x"], "item ids must be distinct .got 'x' twice"),
        ([1, "x"], "item ids must be integers or strings"),
        ([1.5], "item ids must be integers or strings .got float64"),
        ([True], "item ids must be integers or strings .got bool"),
        (np.zeros((2, 2), np.int64), "one-dimensional"),
        (np.array([2**63], np.uint64), "64-bit integers"),
        (["\ud800"], "valid Unicode"),
    ],
)
def test_bad_ids(values: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Ids(values)


def test_arrays_that_would_be_read_out_of_bounds_are_refused() -> None:
    integers, texts = Ids([5, 3]).arrays(), Ids(["aa", "b"]).arrays()
    wrong = [
        ("integer", integers | {"order": np.array([0, 2])}, 2),
        ("integer", integers | {"order": np.array([-1, 0])}, 2),
        ("integer", integers, 3),
        ("text", texts | {"offsets": np.array([0, 4, 3])}, 2),
        ("text", texts | {"offsets": np.array([0, 2, 9])}, 2),
        ("text", texts | {"offsets": np.array([-1, 2, 3])}, 2),
        ("text", texts | {"order": np.array([0, 7])}, 2),
        ("text", texts | {"hashes": texts["hashes"].astype(np.int64)}, 2),
        ("text", integers, 2),
        ("other", {}, 2),
    ]
    for kind, arrays, size in wrong:
        with pytest.raises(ValueError):
            Ids.from_arrays(kind, arrays, size)
