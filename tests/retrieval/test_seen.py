from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.retrieval.seen import Pattern, Seen, check_pattern, pattern_of, rows_of

LISTS = st.lists(st.lists(st.integers(0, 8), max_size=5), min_size=1, max_size=6)


def _pattern(lists: list[list[int]]) -> Pattern:
    ptr = np.cumsum([0, *map(len, lists)])
    return check_pattern(ptr, [item for items in lists for item in items], 9, "seen")


def _lists(pattern: Pattern) -> list[list[int]]:
    return [part.tolist() for part in np.split(pattern.col, pattern.ptr[1:-1])]


@given(LISTS, st.data())
def test_rows_of_a_pattern(lists: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(-1, len(lists) - 1), min_size=1))
    found = rows_of(_pattern(lists), np.array(rows))
    assert _lists(found) == [lists[row] if row >= 0 else [] for row in rows]
    assert len(rows_of(_pattern(lists), np.empty(0, np.int64)).ptr) == 1


@given(LISTS, st.data())
def test_added_items_follow_and_none_is_doubled(
    lists: list[list[int]], data: st.DataObject
) -> None:
    pattern = _pattern(lists)
    seen = Seen(*pattern, num_items=9)
    expected = {row: list(items) for row, items in enumerate(lists)}
    clicks = st.tuples(st.integers(0, len(lists) + 2), st.lists(st.integers(0, 8), max_size=3))
    for row, items in data.draw(st.lists(clicks, max_size=5)):
        seen.add(row, items)
        for item in items:
            if item not in expected.setdefault(row, []):
                expected[row].append(item)
    rows = np.array([*range(len(lists) + 3), -1])
    assert _lists(seen.of(rows)) == [expected.get(row, []) for row in rows.tolist()]
    assert [seen.history(row).tolist() for row in rows] == _lists(seen.of(rows))


def test_adding_from_several_threads_loses_nothing() -> None:
    seen = Seen([0, 0], [], num_items=400)
    parts = [np.arange(start, 400, 4) for start in range(4)]
    threads = [
        threading.Thread(target=lambda p=part: [seen.add(0, [i]) for i in p]) for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen.history(0).tolist()) == list(range(400))


def test_columns_keep_their_dtype() -> None:
    col = np.array([1, 2], np.int32)
    seen = Seen(np.array([0, 2]), col, num_items=3)
    assert seen.pattern.col is col and seen.of(np.array([0])).col.dtype == np.int32


@pytest.mark.parametrize(
    ("ptr", "col", "message"),
    [
        ([0, 2], [1], "'seen.ptr' must run from 0 to 1"),
        ([1, 1], [1], "'seen.ptr' must run from 0 to 1"),
        ([], [], "'seen.ptr' must run from 0 to 0 .got none"),
        ([0, 2, 1, 3], [1, 1, 1], "'seen.ptr' must ascend"),
        ([0, 1], [5], r"'seen.col' must lie in 0..4 .got 5"),
        ([0, 1], [-1], r"'seen.col' must lie in 0..4 .got -1"),
        ([0.0, 1.0], [1], "'seen.ptr' must be integers"),
        ([[0, 1]], [1], "'seen.ptr' must be one-dimensional"),
    ],
)
def test_bad_patterns(ptr: object, col: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Seen(ptr, col, num_items=5)


def test_bad_additions_change_nothing() -> None:
    seen = Seen([0, 1], [2], num_items=5)
    for row, items in ((0, [5]), (0, [-1]), (-1, [1]), (0, [1.5])):
        with pytest.raises((TypeError, ValueError)):
            seen.add(row, items)
    assert seen.history(0).tolist() == [2]


@given(st.lists(st.lists(st.integers(0, 8), max_size=5), max_size=6))
def test_a_pattern_of_lists(lists: list[list[int]]) -> None:
    found = pattern_of([np.array(items, np.int64) for items in lists])
    assert found.ptr.tolist() == [0, *np.cumsum([len(items) for items in lists]).tolist()]
    assert found.col.tolist() == [item for items in lists for item in items]
