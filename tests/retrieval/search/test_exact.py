from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from pyg_kd.retrieval.search import blas_threads, exact, products, tiles, top_k
from pyg_kd.retrieval.search.tiles import Block
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import DTYPES, Table


class Exact:
    """A table that is not a `Table`: all that search needs."""

    def __init__(self, x):
        self.x, self.dim = x, x.shape[1]

    def __len__(self):
        return len(self.x)

    def block(self, start, stop):
        return self.x[start:stop]

    def rows(self, index):
        return self.x[index]


def pattern(rows):
    ptr = np.cumsum([0, *map(len, rows)])
    return Pattern(ptr, np.array([c for row in rows for c in row], np.int64))


def oracle(queries, x, k, hidden=None, allowed=None):
    """Score everything in float64 and sort query by query."""
    scores = queries.astype(np.float64) @ x.astype(np.float64).T
    rows = np.full((len(queries), k), -1)
    values = np.full((len(queries), k), -np.inf)
    for q, score in enumerate(scores):
        out = set() if hidden is None else set(hidden[q])
        order = np.argsort(-score, kind="stable")
        order = [r for r in order if r not in out and (allowed is None or allowed[r])][:k]
        rows[q, : len(order)], values[q, : len(order)] = order, score[order]
    return rows, values


def check(queries, x, k, hidden=None, allowed=None, table=None):
    """`queries` and `x` are small multiples of a power of two: float32 products are exact."""
    table = Table.of(x) if table is None else table
    told = None if hidden is None else pattern(hidden)
    rows, scores = top_k(queries, table, k, hidden=told, allowed=allowed)
    wanted_rows, wanted_scores = oracle(queries, x, k, hidden, allowed)
    assert rows.dtype == np.int64 and scores.dtype == np.float32
    np.testing.assert_array_equal(rows, wanted_rows)
    np.testing.assert_array_equal(scores, wanted_scores)


def tile_sizes(patch, entries):
    patch.setattr(tiles, "TILE_ENTRIES", entries)
    patch.setattr(tiles, "FIRST_ENTRIES", entries)
    patch.setattr(exact, "MOST_ROWS", entries)


def exact_values(rng, shape, levels):
    return (rng.integers(-levels, levels + 1, shape) / 64).astype(np.float32)


@st.composite
def problems(draw):
    n, size, dim = draw(st.integers(0, 6)), draw(st.integers(0, 70)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([0, 1, 2, 1000]))
    queries, x = exact_values(rng, (n, dim), levels), exact_values(rng, (size, dim), levels)
    x[rng.random(size) < draw(st.sampled_from([0, 0.3]))] = -0.0
    share = draw(st.sampled_from([None, 0.0, 0.3, 1.0]))
    hidden = None
    if share is not None:
        hidden = [rng.permutation(size)[: int(share * size)].tolist() for _ in range(n)]
        hidden = [row + row[:3] for row in hidden]  # twice
    share = draw(st.sampled_from([None, 0.0, 0.1, 0.9, 1.0]))
    allowed = None if share is None else rng.random(size) < share
    return queries, x, hidden, allowed


@given(
    problems(),
    st.one_of(st.integers(1, 12), st.integers(60, 90)),
    st.sampled_from([1, 7, 64, 1000]),
    st.sampled_from([1, 2, 5]),
)
def test_equals_sorting_everything(problem, k, tile_entries, query_block):
    queries, x, hidden, allowed = problem
    with pytest.MonkeyPatch.context() as patch:
        tile_sizes(patch, tile_entries)
        patch.setattr(exact, "QUERY_BLOCK", query_block)
        check(queries, x, k, hidden, allowed, Exact(x))


@pytest.mark.parametrize("levels", [0, 1, 3, 2000])
@pytest.mark.parametrize("k", [1, 10, 300, 2500])
@pytest.mark.parametrize("tile_entries", [2**18, 10_000])
def test_many_rows(levels, k, tile_entries, monkeypatch):
    tile_sizes(monkeypatch, tile_entries)
    rng = np.random.default_rng(levels)
    queries, x = exact_values(rng, (21, 3), levels), exact_values(rng, (2003, 3), levels)
    hidden = [rng.integers(0, 2003, rng.integers(0, 2003)).tolist() for _ in range(21)]
    hidden[0], hidden[1] = [], list(range(2003))
    check(queries, x, k, hidden, rng.random(2003) < 0.7)
    check(queries, x, k, hidden, rng.random(2003) < 0.05)
    check(queries, x, k, hidden)


@pytest.mark.parametrize("order", [1, -1])
def test_rows_sorted_by_score(order, monkeypatch):
    tile_sizes(monkeypatch, 640)
    x = np.arange(20_000, dtype=np.float32)[::order, None] // 3
    check(np.array([[1.0], [-1.0], [0.0]], np.float32), x, 7, [[19_999, 0], [], []])


def test_a_million_rows():
    rng = np.random.default_rng(0)
    queries, x = exact_values(rng, (3, 4), 400), exact_values(rng, (1_000_000, 4), 400)
    hidden = [np.argsort(-(x @ q))[:60].tolist() for q in queries]
    check(queries, x, 50, hidden, rng.random(len(x)) < 0.5)
    check(queries[:1], x, 50)


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_tables_at_every_precision(dtype):
    rng = np.random.default_rng(1)
    queries = rng.standard_normal((40, 8)).astype(np.float32)
    table = Table.of(rng.standard_normal((3000, 8)).astype(np.float32), dtype)
    hidden = [rng.permutation(3000)[:30].tolist() for _ in queries]
    rows, scores = top_k(queries, table, 20, hidden=pattern(hidden))
    wanted, values = oracle(queries, table.block(0, 3000), 20, hidden)
    np.testing.assert_allclose(scores, values, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(rows, wanted)


@pytest.mark.parametrize("k", [1, 20])
def test_queries_without_a_preference_take_the_first_rows(k, monkeypatch):
    tile_sizes(monkeypatch, 30_000)
    rng = np.random.default_rng(2)
    queries, x = exact_values(rng, (9, 3), 300), exact_values(rng, (5000, 3), 300)
    queries[[0, 4]] = 0
    queries[5] = [1, 0, 0]  # of levels of which each is the score of about eight rows
    x[:, 0] = np.sign(x[:, 0])  # or of thousands
    hidden = [rng.integers(0, 100, 50).tolist() for _ in queries]
    check(queries, x, k, hidden, np.arange(5000) > 40)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads, monkeypatch):
    monkeypatch.setattr(exact, "WORTH_THREADS", 1)
    monkeypatch.setattr(exact, "usable_threads", lambda: threads)
    rng = np.random.default_rng(3)
    queries, x = exact_values(rng, (700, 3), 20), exact_values(rng, (900, 3), 20)
    hidden = [rng.integers(0, 900, 20).tolist() for _ in queries]
    check(queries, x, 10, hidden)
    check(queries[:2], x, 10, hidden[:2])
    with pytest.raises(ValueError, match="NaN"):
        top_k(np.where(queries == queries[5], np.nan, queries), Table.of(x), 10)


def test_searches_of_several_threads_at_once(monkeypatch):
    monkeypatch.setattr(exact, "WORTH_THREADS", 1)
    rng = np.random.default_rng(4)
    x = exact_values(rng, (4000, 16), 100)
    parts = [exact_values(rng, (n, 16), 100) for n in (1, 60, 2, 90, 1, 60)]
    wanted = [oracle(part, x, 5) for part in parts]
    before = [lib["num_threads"] for lib in threadpool_info()]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda part: top_k(part, Table.of(x), 5), parts))
    assert [lib["num_threads"] for lib in threadpool_info()] == before
    for (rows, scores), (wanted_rows, wanted_scores) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(rows, wanted_rows)
        np.testing.assert_array_equal(scores, wanted_scores)


def test_blas_is_left_alone_where_its_threads_cannot_be_set(monkeypatch):
    monkeypatch.setattr(blas_threads, "_controller", lambda: None)
    assert blas_threads.usable_threads() == 1
    with blas_threads.single_threaded_blas():
        pass


@pytest.mark.parametrize("share", [None, 0.3, 0.95])
def test_memory_does_not_grow_with_queries_times_rows(share):
    rng = np.random.default_rng(7)
    queries, x = exact_values(rng, (3000, 4), 300), exact_values(rng, (30_000, 4), 300)
    queries[:200] = 0  # their scores are all equal
    hidden = Pattern(np.arange(3001) * 20, rng.integers(0, 30_000, 60_000))
    allowed = None if share is None else rng.random(30_000) < share
    table = Table.of(x)
    tracemalloc.start()
    top_k(queries, table, 20, hidden=hidden, allowed=allowed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 3000 * 30_000 / 2  # bytes; two threads hold a tile each


def test_infinite_scores():
    x = np.array([[np.inf], [-np.inf], [1.0], [np.inf]], np.float32)
    rows, scores = top_k(np.ones((1, 1), np.float32), Exact(x), 4)
    assert rows.tolist() == [[0, 3, 2, -1]]
    assert scores.tolist() == [[np.inf, np.inf, 1.0, -np.inf]]


def test_zeros_of_both_signs_are_one_score():
    x = np.array([[-0.0], [0.0], [-0.0], [0.0]], np.float32)
    rows, scores = top_k(np.ones((1, 1), np.float32), Exact(x), 3)
    assert rows.tolist() == [[0, 1, 2]]
    assert not np.signbit(scores).any()


class Noted(Exact):
    """Notes the shapes of products."""

    def __init__(self, x, dtype="float32"):
        super().__init__(x)
        self.dtype, self.noted = dtype, []

    def block(self, start, stop):
        self.noted.append(stop - start)
        return super().block(start, stop)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 31, 33, 101])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_no_product_has_a_single_row_or_query_by_chance(size, dtype, monkeypatch):
    tile_sizes(monkeypatch, 20)
    monkeypatch.setattr(products, "WIDENED_VALUES", 10)
    monkeypatch.setattr(exact, "WORTH_THREADS", 1)
    monkeypatch.setattr(exact, "QUERY_BLOCK", 4)
    widths = []
    monkeypatch.setattr(exact, "Block", lambda x, *args: widths.append(len(x)) or Block(x, *args))
    x = exact_values(np.random.default_rng(5), (size, 3), 50)
    for n in (1, 2, 3, 5, 9):
        widths.clear()
        table = Noted(x, dtype)
        check(np.ones((n, 3), np.float32), x, 3, table=table)
        assert n == 1 or (sum(widths) == n and min(widths) > 1)
        assert size == 1 or min(table.noted) > 1


def test_company_changes_no_more_than_the_last_digit(monkeypatch):
    rng = np.random.default_rng(6)
    queries = rng.standard_normal((300, 24)).astype(np.float32)
    table = Table.of(rng.standard_normal((5000, 24)).astype(np.float32))
    scores = top_k(queries, table, 20)[1]
    np.testing.assert_array_equal(top_k(queries, table, 20)[1], scores)
    for n in (1, 2, 3, 40):
        np.testing.assert_allclose(top_k(queries[:n], table, 20)[1], scores[:n], rtol=3e-6)
    tile_sizes(monkeypatch, 9000)
    np.testing.assert_allclose(top_k(queries, table, 20)[1], scores, rtol=3e-6)


def test_float64_queries_are_narrowed():
    rows, scores = top_k(np.ones((2, 2)), Table.of(np.eye(2)), 1)
    assert rows.tolist() == [[0], [0]] and scores.dtype == np.float32


@pytest.mark.parametrize("size", [5, 4000])
@pytest.mark.parametrize("tile_entries", [2**18, 100])
def test_nan_is_refused(size, tile_entries, monkeypatch):
    tile_sizes(monkeypatch, tile_entries)
    x = np.zeros((size, 2), np.float32)
    x[size - 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        top_k(np.ones((3, 2), np.float32), Exact(x), 2)
    with pytest.raises(ValueError, match="NaN"):
        top_k(np.full((3, 2), np.nan, np.float32), Exact(np.zeros((size, 2), np.float32)), 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": 0}, ValueError, r"'k' must be a positive integer \(got 0\)"),
        ({"k": 2.0}, ValueError, r"'k' must be a positive integer \(got 2.0\)"),
        ({"queries": np.ones(3)}, ValueError, r"'queries' must have shape \[n, 3\] \(got \[3\]"),
        ({"queries": np.ones((2, 4))}, ValueError, r"'queries' must .* \(got \[2, 4\]"),
        ({"queries": np.ones((2, 3), int)}, TypeError, r"'queries' .* floating .*int64"),
        ({"allowed": np.ones(5)}, TypeError, r"'allowed' must be bool \(got float64"),
        ({"allowed": np.ones(4, bool)}, ValueError, r"'allowed' must have shape \[5\] \(got \[4"),
        ({"hidden": pattern([[0]])}, ValueError, r"'hidden' must have 2 rows \(got 1"),
        ({"hidden": pattern([[0], [5]])}, ValueError, r"'hidden.col' must lie in 0..4 \(got 5"),
        ({"hidden": pattern([[0], [-1]])}, ValueError, r"'hidden.col' must lie in 0..4 \(got -1"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    arguments = {"queries": np.ones((2, 3)), "table": Table.of(np.ones((5, 3))), "k": 2} | change
    with pytest.raises(error, match=message):
        top_k(**arguments)
