from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from pyg_kd.retrieval.backends import BACKENDS, make_backend
from pyg_kd.retrieval.backends.torch_backend import masked_scores
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import DTYPES, Table

EXACT = ["numpy", "torch", "faiss-flat"]
APPROXIMATE = ["faiss-ivf", "faiss-hnsw", "hnswlib"]
QUICK = {"num_neighbors": 16, "build_width": 40}  # graphs of a few thousand rows need no more
LIBRARY = {"faiss-flat": "faiss", "faiss-ivf": "faiss", "faiss-hnsw": "faiss"}
LIBRARY |= {"hnswlib": "hnswlib"}


def backend_of(name, table, **options):
    if name in LIBRARY:
        pytest.importorskip(LIBRARY[name])
    if "hnsw" in name:
        options = QUICK | options
    return make_backend(name, table, **options)


def pattern(rows):
    ptr = np.cumsum([0, *map(len, rows)])
    return Pattern(ptr, np.array([c for row in rows for c in row], np.int64))


def oracle(queries, x, k, hidden=None, allowed=None):
    scores = queries.astype(np.float64) @ x.astype(np.float64).T
    rows, values = np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf)
    for q, score in enumerate(scores):
        out = set() if hidden is None else set(hidden[q])
        order = np.argsort(-score, kind="stable")
        order = [r for r in order if r not in out and (allowed is None or allowed[r])][:k]
        rows[q, : len(order)], values[q, : len(order)] = order, score[order]
    return rows, values


def exact_values(rng, shape, levels):
    """Float32 products of these are exact."""
    return (rng.integers(-levels, levels + 1, shape) / 64).astype(np.float32)


@st.composite
def problems(draw):
    n, size, dim = draw(st.integers(0, 5)), draw(st.integers(0, 400)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([0, 1, 2, 1000]))
    queries, x = exact_values(rng, (n, dim), levels), exact_values(rng, (size, dim), levels)
    share = draw(st.sampled_from([None, 0.0, 0.05, 1.0]))
    hidden = None
    if share is not None:
        hidden = [rng.permutation(size)[: int(share * size)].tolist() * 2 for _ in range(n)]
    share = draw(st.sampled_from([None, 0.0, 0.05, 0.8, 1.0]))
    allowed = None if share is None else rng.random(size) < share
    return queries, x, hidden, allowed


@pytest.mark.parametrize("name", EXACT)
@given(problems(), st.sampled_from([1, 2, 5, 30, 500]))
@settings(max_examples=30, deadline=None)
def test_exact_backends_equal_sorting_everything(name, problem, k):
    queries, x, hidden, allowed = problem
    backend = backend_of(name, Table.of(x))
    assert backend.exact and backend.name == name
    told = None if hidden is None else pattern(hidden)
    rows, scores = backend.top_k(queries, k, hidden=told, allowed=allowed)
    wanted_rows, wanted_scores = oracle(queries, x, k, hidden, allowed)
    assert rows.dtype == np.int64 and scores.dtype == np.float32
    np.testing.assert_array_equal(rows, wanted_rows)
    np.testing.assert_array_equal(scores, wanted_scores)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_backends_at_every_precision(name, dtype):
    rng = np.random.default_rng(0)
    table = Table.of(rng.standard_normal((3000, 8)).astype(np.float32), dtype)
    queries = rng.standard_normal((30, 8)).astype(np.float32)
    # What a user has seen scores high.
    scores = queries @ table.block(0, 3000).T
    hidden = [row[: 3 * q].tolist() for q, row in enumerate(np.argsort(-scores))]
    rows, scores = backend_of(name, table).top_k(queries, 20, hidden=pattern(hidden))
    wanted_rows, wanted_scores = oracle(queries, table.block(0, 3000), 20, hidden)
    np.testing.assert_array_equal(rows, wanted_rows)
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", APPROXIMATE)
@pytest.mark.parametrize("share", [None, 0.5, 0.05])
def test_approximate_backends_find_nearly_all(name, share):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4000, 8)).astype(np.float32)
    queries = rng.standard_normal((40, 8)).astype(np.float32)
    scores = queries @ x.T
    hidden = [row[: 20 * (q % 5)].tolist() for q, row in enumerate(np.argsort(-scores))]
    allowed = None if share is None else rng.random(4000) < share
    backend = backend_of(name, Table.of(x))
    assert not backend.exact and backend.name == name
    rows, found = backend.top_k(queries, 10, hidden=pattern(hidden), allowed=allowed)
    wanted, _ = oracle(queries, x, 10, hidden, allowed)
    recall = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(rows, wanted, strict=True)])
    assert recall > 0.9
    # Full, in order, true scores, nothing hidden or banned.
    assert (rows >= 0).all() and (np.diff(found) <= 0).all()
    np.testing.assert_allclose(found, np.take_along_axis(scores, rows, 1), rtol=1e-4)
    assert not any(np.isin(row, out).any() for row, out in zip(rows, hidden, strict=True))
    assert allowed is None or allowed[rows].all()


@pytest.mark.parametrize("name", APPROXIMATE)
def test_approximate_backends_fill_lists_whatever_is_hidden(name):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3000, 4)).astype(np.float32)
    queries = rng.standard_normal((3, 4)).astype(np.float32)
    order = np.argsort(-(queries @ x.T))
    hidden = [order[0, :2990].tolist(), order[1, :700].tolist(), []]
    rows, scores = backend_of(name, Table.of(x)).top_k(queries, 20, hidden=pattern(hidden))
    np.testing.assert_array_equal(rows[0, :10], order[0, 2990:])
    assert (rows[0, 10:] == -1).all() and (scores[0, 10:] == -np.inf).all()
    np.testing.assert_array_equal(rows[1], order[1, 700:720])
    assert (rows[2] >= 0).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_no_rows_and_no_queries(name):
    empty = backend_of(name, Table.of(np.zeros((0, 3))))
    rows, scores = empty.top_k(np.ones((2, 3), np.float32), 4)
    assert (rows == -1).all() and (scores == -np.inf).all() and rows.shape == (2, 4)
    some = backend_of(name, Table.of(np.ones((5, 3))))
    assert some.top_k(np.ones((0, 3), np.float32), 4)[0].shape == (0, 4)


@pytest.mark.parametrize("name", BACKENDS)
def test_wrong_arguments_are_named(name):
    backend = backend_of(name, Table.of(np.ones((5, 3))))
    queries = np.ones((2, 3), np.float32)
    for error, message, arguments in (
        (ValueError, "'k'", {"queries": queries, "k": 0}),
        (ValueError, "'queries'", {"queries": queries[:, :2], "k": 1}),
        (TypeError, "'queries'", {"queries": queries.astype(int), "k": 1}),
        (ValueError, "'hidden'", {"queries": queries, "k": 1, "hidden": pattern([[1]])}),
        (ValueError, "'hidden.col'", {"queries": queries, "k": 1, "hidden": pattern([[], [5]])}),
        (TypeError, "'allowed'", {"queries": queries, "k": 1, "allowed": np.ones(5)}),
        (ValueError, "'allowed'", {"queries": queries, "k": 1, "allowed": np.ones(4, bool)}),
        (ValueError, "NaN", {"queries": queries * np.nan, "k": 1}),
    ):
        with pytest.raises(error, match=message):
            backend.top_k(**arguments)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_missing_library_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, LIBRARY[name], None)
    with pytest.raises(ImportError, match=rf"needs {LIBRARY[name]}: pip install 'pyg_kd\["):
        make_backend(name, Table.of(np.eye(3)))


def test_faiss_takes_an_index_of_the_same_rows():
    faiss = pytest.importorskip("faiss")
    x = np.random.default_rng(3).standard_normal((200, 4)).astype(np.float32)
    index = faiss.IndexFlatIP(4)
    index.add(x)
    backend = make_backend("faiss-flat", Table.of(x), index=index)
    np.testing.assert_array_equal(backend.top_k(x[:3], 5)[0], oracle(x[:3], x, 5)[0])
    with pytest.raises(ValueError, match=r"'index' must hold 199 rows of width 4 \(got 200 of 4\)"):
        make_backend("faiss-flat", Table.of(x[:-1]), index=index)
    with pytest.raises(ValueError, match="'num_probed' must be a positive integer"):
        make_backend("faiss-ivf", Table.of(x), num_probed=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_scores_where_the_table_is(dtype):
    backend = make_backend("torch", Table.of(np.ones((50, 4)), dtype))
    with FakeTensorMode():
        for name in ("values", "scale"):
            held = getattr(backend, name)
            if held is not None:
                elsewhere = torch.empty(held.shape, dtype=held.dtype, device="cuda")
                setattr(backend, name, elsewhere)
        queries = torch.empty(3, 4, device="cuda")
        banned = torch.empty(50, dtype=torch.bool, device="cuda")
        cols = slice(10, 40)
        scores = masked_scores(queries, backend.tile(cols), banned, cols)
    assert (scores.shape, scores.dtype, scores.device.type) == ((3, 30), torch.float32, "cuda")


def test_tables_mapped_from_files_raise_no_warning() -> None:
    values = np.ones((3, 2), np.float32)
    values.flags.writeable = False
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # otherwise once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            backend = make_backend("torch", Table("float32", 2, values))
    finally:
        torch.set_warn_always(before)
    assert backend.top_k(np.ones((1, 2), np.float32), 2)[0].tolist() == [[0, 1]]
