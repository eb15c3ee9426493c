"""Lists through Parquet and back, against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from pyg_kd.shards.parquet import (
    ids_column,
    list_columns,
    padded,
    read_columns,
    smallest,
    vector_column,
    vectors,
    write_table,
)


@st.composite
def tables(draw):
    rows, width = draw(st.integers(0, 6)), draw(st.integers(1, 5))
    length = draw(arrays(np.int64, rows, elements=st.integers(0, width)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    ids = rng.integers(0, 99, (rows, width)).astype(draw(st.sampled_from([np.int32, np.int64])))
    scores = rng.normal(size=(rows, width)).astype(np.float32)
    beyond = np.arange(width) >= length[:, None]
    ids[beyond], scores[beyond] = -1, -np.inf
    return ids, scores


@settings(max_examples=40, deadline=None)
@given(tables())
def test_lists_come_back(table) -> None:
    ids, scores = table
    columns = dict(zip(("items", "scores"), list_columns(ids >= 0, ids, scores), strict=True))
    found = read_columns(write_table(columns, {"a": "b"}), ["items", "scores"])
    plain = [[int(v) for v in row if v >= 0] for row in ids]
    assert found["items"].to_pylist() == plain
    lists = padded(found["items"], ids.shape[1], -1)
    assert lists.dtype == ids.dtype and np.array_equal(lists, ids)
    assert np.array_equal(padded(found["scores"], ids.shape[1], -np.inf), scores)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(1, 4), st.sampled_from([np.float32, np.float64]))
def test_vectors_and_ids_come_back(rows, dim, kind) -> None:
    x = np.random.default_rng(0).normal(size=(rows, dim)).astype(kind)
    words = [f"é{row}" for row in range(rows)]
    columns = {"vector": vector_column(x), "user": ids_column(words)}
    columns["item"] = ids_column(np.arange(rows))
    found = read_columns(write_table(columns, {}), [*columns])
    assert vectors(found["vector"]).dtype == kind and np.array_equal(vectors(found["vector"]), x)
    assert found["user"].to_pylist() == words and found["item"].to_pylist() == [*range(rows)]


def test_lists_that_are_too_long_are_refused() -> None:
    [column] = list_columns(np.array([[True, True]]), np.array([[3, 1]]))
    with pytest.raises(ValueError, match=r"at most 1 places \(got 2\)"):
        padded(column, 1, -1)


def test_lists_of_words_come_back() -> None:
    words = np.array([["a", "bé"], ["c", None]], object)
    [column] = list_columns(np.array([[True, True], [True, False]]), words)
    [found] = read_columns(write_table({"items": column}, {}), ["items"]).values()
    assert found.to_pylist() == [["a", "bé"], ["c"]]
    assert padded(found, 2, None).tolist() == words.tolist()


def test_the_same_table_is_the_same_bytes() -> None:
    columns = list_columns(np.array([[True, True]]), np.array([[3, 1]]), np.array([[0.5, 0.25]]))
    told = dict(zip("ab", columns, strict=True))
    assert bytes(write_table(told, {})) == bytes(write_table(dict(told), {}))


def test_types_of_ids() -> None:
    assert smallest(1) is smallest(2**31) is np.int32 and smallest(2**31 + 1) is np.int64
