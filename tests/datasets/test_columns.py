from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets.columns import numbered, seconds

IDS = st.one_of(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20),
    st.lists(st.text(max_size=3), min_size=1, max_size=20),
)


@given(IDS)
def test_numbers_and_raw_ids_recover_the_column(column: list[int] | list[str]) -> None:
    number, raw = numbered("who", column)
    raw = raw.tolist() if isinstance(raw, torch.Tensor) else raw
    assert raw == sorted(set(column))
    assert [raw[n] for n in number.tolist()] == column
    assert number.dtype == torch.long


@pytest.mark.parametrize(
    "column",
    [
        torch.tensor([5, 3, 5], dtype=torch.int32),
        np.array([5, 3, 5], dtype=np.uint64),
        np.array([5, 3, 5], dtype=object),
        np.array([5.0, 3.0, 5.0]),
        np.array([5.0, 3, np.float32(5)], dtype=object),
        pd.Series([5, 3, None, 5]).dropna(),
        pd.Series([5, 3, 5], dtype="Int64"),
    ],
)
def test_all_integers_become_int64(column: object) -> None:
    number, raw = numbered("who", column)
    assert number.tolist() == [1, 0, 1]
    assert isinstance(raw, torch.Tensor)
    assert raw.tolist() == [3, 5]
    assert raw.dtype == torch.long


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (np.array([1.0, 2.5]), ValueError, r"'who' must hold .* whole numbers .* \(got 2.5\)"),
        (np.array([1.0, np.inf]), ValueError, r"whole numbers .* \(got inf\)"),
        (np.array([2.0**53]), ValueError, r"below 2\*\*53 in float64 \(got 9007199254740992.0\)"),
        (np.float32([2**24]), ValueError, r"below 2\*\*24 in float32 \(got 16777216.0\)"),
        (np.array([2**53, 2.0], dtype=object), ValueError, r"below 2\*\*53 .*got 9007199254740992"),
        (torch.ones(1, dtype=torch.bfloat16), TypeError, r"low precision \(got torch.bfloat16\)"),
        (np.array([True, False]), TypeError, r"\(got bool\)"),
        (np.array([1, "a"], dtype=object), TypeError, r"\(got int, str\)"),
        (np.array([1.0, np.nan, np.nan]), ValueError, r"'who' must have no missing .* \(got 2\)"),
        (np.array(["a", None], dtype=object), ValueError, r"must have no missing .* \(got 1\)"),
        (np.array(["a", np.nan], dtype=object), ValueError, r"must have no missing .* \(got 1\)"),
        (np.array(["a", pd.NA], dtype=object), ValueError, r"must have no missing .* \(got 1\)"),
        (np.array([2**63], dtype=np.uint64), ValueError, r"64-bit .*got 9223372036854775808\)"),
        (np.array([1, 10**30], dtype=object), ValueError, r"64-bit .*got 1000000000000000000000"),
        (np.array([b"a"]), TypeError, r"integers or strings \(got \|S1\)"),
        (np.array([[1], [2, 3]], dtype=object), TypeError, r"integers or strings \(got list\)"),
        ([[1], [2, 3]], ValueError, "'who' must hold one value a row"),
        (["a", float("nan")], ValueError, r"must have no missing .* \(got 1\)"),
        (("a", 7), TypeError, r"\(got int, str\)"),
        (["a", b"b"], TypeError, r"\(got bytes, str\)"),
        (["a", True], TypeError, r"\(got bool, str\)"),
        ([["a"], ["b"]], ValueError, r"must have one dimension \(got \[2, 1\]\)"),
        (np.zeros((2, 2), dtype=int), ValueError, r"must have one dimension \(got \[2, 2\]\)"),
    ],
)
def test_bad_ids(column: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbered("who", column)


@pytest.mark.parametrize("kind", [list, tuple, pd.Series])
def test_strings_that_end_in_zeros_stay_apart(kind) -> None:
    number, raw = numbered("who", kind(["a\0", "a", np.str_("a")]))
    assert raw == ["a", "a\0"] and set(map(type, raw)) == {str}
    assert number.tolist() == [1, 0, 0]


def test_seconds_keep_numbers_and_convert_dates() -> None:
    assert seconds("t", np.array([3, 1], dtype=np.int32)).dtype == torch.long
    assert seconds("t", [0.5, 1.5]).tolist() == [0.5, 1.5]
    moment = datetime(2020, 5, 17, 12, 30, 1, tzinfo=timezone.utc)
    for unit in ("s", "ms", "ns"):
        column = np.array([moment.replace(tzinfo=None)], dtype=f"datetime64[{unit}]")
        assert seconds("t", column).tolist() == [int(moment.timestamp())]


@pytest.mark.parametrize("kind", [list, np.array, lambda x: pd.Series(x, dtype=object)])
def test_seconds_of_strings(kind) -> None:
    column = kind(["2020-01-01", "2020-01-01T00:01:00", "2020-01-01 02:00:00+02:00"])
    start = int(datetime(2020, 1, 1, tzinfo=timezone.utc).timestamp())
    assert seconds("t", column).tolist() == [start, start + 60, start]


def test_seconds_of_zoned_dates() -> None:
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(pandas.to_datetime(["2020-01-01T00:00:00+02:00"]))
    moment = datetime(2019, 12, 31, 22, tzinfo=timezone.utc)
    assert seconds("t", column).tolist() == [int(moment.timestamp())]


def test_seconds_of_python_dates() -> None:
    morning = datetime(2020, 1, 1, 6, tzinfo=timezone.utc)
    midnight = int(datetime(2020, 1, 1, tzinfo=timezone.utc).timestamp())
    assert seconds("t", [morning.replace(tzinfo=None)]).tolist() == [midnight + 6 * 3600]
    assert seconds("t", [morning]).tolist() == [midnight + 6 * 3600]
    assert seconds("t", [morning.date()]).tolist() == [midnight]
    zoned = pd.DatetimeIndex(["2020-01-01T01:00:00+01:00"])
    assert seconds("t", zoned).tolist() == [midnight]


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (["monday"], TypeError, r"'t' must hold numbers, dates or strings like.*monday"),
        # NumPy reads the first as a year, the second as the moment of reading.
        (["1600000000"], TypeError, r"'t' must hold numbers, dates .*got '1600000000'"),
        (["now"], TypeError, r"'t' must hold numbers, dates .*got 'now'"),
        (["2020-13-01"], TypeError, r"'t' must hold numbers, dates .*2020-13-01"),
        (np.array([2**63], dtype=np.uint64), ValueError, r"64-bit .*got 9223372036854775808\)"),
        ([1.0, float("inf")], ValueError, r"'t' must hold finite numbers"),
        ([True, False], TypeError, r"'t' must hold numbers or dates \(got bool\)"),
        (np.array([1, "a"], dtype=object), TypeError, r"numbers or dates \(got int, str\)"),
        ([1.0, float("nan")], ValueError, r"'t' must have no missing values \(got 1\)"),
        (np.array(["NaT"], dtype="datetime64[s]"), ValueError, r"no missing values \(got 1\)"),
    ],
)
def test_bad_times(column: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        seconds("t", column)
