from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyg_kd.retrieval.export.onnx as module
from pyg_kd.retrieval import TopKIndex, save_index
from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.export import write_onnx
from tests.retrieval.bundles import small_index

onnxruntime = pytest.importorskip("onnxruntime")

DTYPES = ["float32", "float16", "int8", "int4"]


def session(index: TopKIndex, folder: Path, **options: Any) -> Any:
    write_onnx(index, folder / "student.onnx", **options)
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = 3  # that inputs have defaults is meant
    chosen.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / "student.onnx", chosen)


def oracle(
    index: TopKIndex, queries: np.ndarray, k: int, hidden: set[tuple[int, int]]
) -> tuple[list[list[int]], list[list[float]]]:
    """Lists by sorting all scores in float64, equal ones by row."""
    table = index.x_item.block(0, index.num_items).astype(np.float64)
    rows, values = [], []
    for place, query in enumerate(queries.astype(np.float64)):
        scores = {
            item: float(score)
            for item, score in enumerate(table @ query)
            if (place, item) not in hidden
        }
        best = sorted(scores, key=lambda item: (-scores[item], item))[:k]
        rows.append(best + [-1] * (k - len(best)))
        values.append([scores[item] for item in best] + [-np.inf] * (k - len(best)))
    return rows, values


def whole_numbers(dtype: str, num_users: int, num_items: int, dim: int, seed: int) -> TopKIndex:
    """Tables whose scores are exact at every precision, with many that are equal."""
    rng = np.random.default_rng(seed)
    tables = [rng.integers(-7, 8, (n, dim)).astype(np.float32) for n in (num_users, num_items)]
    for table in tables:
        table[:, 0] = 7  # so that the scale of every row is exact
    degree = rng.integers(0, num_items + 1, num_users)
    ptr = np.concatenate([[0], np.cumsum(degree)])
    col = np.concatenate(
        [np.empty(0, int), *(rng.permutation(num_items)[:n] for n in degree.tolist())]
    )
    return TopKIndex(*tables, seen=(ptr, col), dtype=dtype)


@given(
    st.sampled_from(["float32", "float16", "int4"]),
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 15),
    st.integers(0, 99),
    st.booleans(),
)
def test_lists_are_those_of_a_sort(tmp_path_factory, dtype, users, items, dim, k, seed, seen):
    index = whole_numbers(dtype, users, items, dim, seed)
    run = session(index, tmp_path_factory.mktemp("onnx"))
    rng = np.random.default_rng(seed)
    wanted = rng.integers(0, users, rng.integers(1, 8))
    pairs = rng.integers([0, 0], [len(wanted), items], (rng.integers(0, 6), 2))
    hidden = {(int(a), int(b)) for a, b in pairs}
    if seen:
        hidden |= {(p, int(i)) for p, u in enumerate(wanted) for i in index.seen.history(u)}
    feed = {"users": wanted, "k": np.array([k]), "hidden": pairs, "exclude_seen": np.array([seen])}
    rows, scores = run.run(["items", "scores"], feed)
    expected = oracle(index, index.x_user.rows(wanted), k, hidden)
    assert rows.tolist() == expected[0]
    assert np.allclose(scores, expected[1], rtol=1e-6)
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_as_the_index(tmp_path, dtype):
    index = small_index(dtype, user_ids=None, item_ids=None)
    run = session(index, tmp_path)
    for users in (np.arange(7), np.array([6, 1, 1])):
        rows, scores = run.run(None, {"users": users, "k": np.array([12])})
        wanted = index.search(users, 12)
        assert np.array_equal(rows, wanted[0])
        assert np.allclose(scores, wanted[1], rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tables_are_widened_exactly(tmp_path, dtype):
    """By vector with unit vectors, scores are the entries of the table themselves."""
    index = small_index(dtype)
    run = session(index, tmp_path, by="vector")
    rows, scores = run.run(None, {"queries": np.eye(5, dtype=np.float32), "k": np.array([9])})
    found = np.zeros((5, 9), np.float32)
    np.put_along_axis(found, rows, scores, axis=1)
    assert np.array_equal(found.T, index.x_item.block(0, 9))


def test_by_vector_new_users_are_ranked(tmp_path):
    index = small_index(item_ids=None)
    run = session(index, tmp_path, by="vector")
    history = index.histories([[2, 5], [7]])
    queries = index.fold_in(history.ptr, history.col)
    pairs = np.array([[0, 2], [0, 5], [1, 7]])
    rows, scores = run.run(None, {"queries": queries, "k": np.array([4]), "hidden": pairs})
    wanted = index.search_history([[2, 5], [7]], 4)
    assert np.array_equal(rows, wanted[0]) and np.allclose(scores, wanted[1], rtol=1e-5)


def test_defaults_and_padding(tmp_path):
    index = small_index(user_ids=None, item_ids=None)
    run = session(index, tmp_path)
    assert [(i.name, i.shape) for i in run.get_inputs()] == [("users", ["n"])]
    rows, scores = run.run(None, {"users": np.array([2, -1, 5])})
    assert rows.shape == (3, 20) and np.array_equal(rows[[0, 2]], index.search([2, 5], 20)[0])
    assert (rows[1] == -1).all() and (scores[1] == -np.inf).all()
    nothing = run.run(None, {"users": np.empty(0, np.int64)})
    assert [part.shape for part in nothing] == [(0, 20), (0, 20)]


def test_pairs_that_are_padding(tmp_path):
    index = small_index(user_ids=None, item_ids=None, seen=None)
    run = session(index, tmp_path)
    users, k = np.array([0, 3]), np.array([9])
    pairs = np.array([[-1, 3], [0, -1], [-1, -1], [1, 4]])
    rows, _ = run.run(None, {"users": users, "k": k, "hidden": pairs})
    assert sorted(rows[0]) == [*range(9)] and sorted(rows[1]) == [-1, 0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "feed",
    [
        {"users": np.array([7])},
        {"users": np.array([0]), "hidden": np.array([[1, 0]])},
        {"users": np.array([0]), "hidden": np.array([[0, 9]])},
        {"users": np.array([0]), "k": np.array([-1])},
    ],
)
def test_what_is_out_of_range_is_an_error(tmp_path, feed):
    run = session(small_index(), tmp_path)
    with pytest.raises(Exception, match=r"(?i)invalid|out of|bound|range|negative"):
        run.run(None, feed)


def test_seen_items_may_stay_out_of_the_file(tmp_path):
    index = small_index(user_ids=None, item_ids=None)
    run = session(index, tmp_path, exclude_seen=False)
    assert {i.name for i in run.get_overridable_initializers()} == {"k", "hidden"}
    rows, _ = run.run(None, {"users": np.arange(7), "k": np.array([9])})
    assert np.array_equal(rows, index.search(np.arange(7), 9, exclude_seen=False)[0])


def test_bytes_of_the_file_are_those_of_the_tables(tmp_path):
    rng = np.random.default_rng(0)
    x_user, x_item = rng.normal(size=(500, 64)), rng.normal(size=(900, 64))
    for dtype in DTYPES:
        index = TopKIndex(x_user, x_item, dtype=dtype)
        write_onnx(index, tmp_path / "a.onnx")
        assert index.nbytes < (tmp_path / "a.onnx").stat().st_size < index.nbytes + 10_000


def test_the_model_tells_what_it_is(tmp_path):
    save_index(small_index("int8"), tmp_path / "bundle")
    index = load_student(tmp_path / "bundle")
    write_onnx(index, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["pyg_kd.sha256"] == index.info["sha256"] and told["pyg_kd.dtype"] == "int8"
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""}


def test_tables_beyond_the_format(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 100)
    with pytest.raises(ValueError, match=r"below 2 GB for ONNX \(got \d+ bytes\)"):
        write_onnx(small_index(), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_unknown_option(tmp_path):
    with pytest.raises(ValueError, match=r"'by' must be one of .*\(got 'item'\)"):
        write_onnx(small_index(), tmp_path / "a.onnx", by="item")  # type: ignore[arg-type]
