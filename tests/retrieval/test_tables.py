from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyg_kd.retrieval.tables import DTYPES, Table

MATRICES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-100, 100, width=32),
)


def _quantised(x: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact scale of every row, and the rows in float64."""
    scales = np.abs(x.astype(np.float64)).max(1) / largest
    return scales, x.astype(np.float64)


@given(MATRICES)
def test_integers_are_within_half_a_step(x: np.ndarray) -> None:
    for dtype, largest in (("int8", 127), ("int4", 7)):
        table = Table.of(x, dtype)
        scales, exact = _quantised(x, largest)
        unit = scales.max(initial=0)
        # float16 rounds a scale by at most a 1024th, and below 6e-5 of the largest in even steps.
        step = scales * (1 + 2**-10) + unit * 2.0**-24
        error = np.abs(table.block(0, len(x)).astype(np.float64) - exact)
        assert (error <= (0.5 + 1e-3) * step[:, None] + 1e-30).all()


@given(MATRICES, st.sampled_from(DTYPES))
def test_rows_blocks_and_arrays_agree(x: np.ndarray, dtype: str) -> None:
    table = Table.of(x, dtype)
    whole = table.block(0, len(x))
    assert whole.dtype == np.float32 and whole.shape == x.shape
    again = Table.from_arrays(dtype, table.arrays(), x.shape[1])
    index = np.arange(len(x))[::-1]
    assert np.array_equal(again.rows(index), whole[::-1])
    assert np.array_equal(again.take(index).block(0, len(x)), whole[::-1])
    assert np.array_equal(table.block(1, len(x)), whole[1:])


def test_bytes_of_a_row() -> None:
    x = np.random.default_rng(0).normal(size=(10, 20)).astype(np.float32)
    assert {dtype: Table.of(x, dtype).nbytes // 10 for dtype in DTYPES} == {
        "float32": 80,
        "float16": 40,
        "int8": 22,
        "int4": 12,
    }


def test_float32_is_not_copied_and_zeros_stay_zero() -> None:
    x = np.zeros((3, 5), np.float32)
    assert np.shares_memory(Table.of(x).block(0, 3), x)
    x[1] = 1
    for dtype in DTYPES:
        assert np.array_equal(Table.of(x, dtype).block(0, 3), x)
        assert not Table.of(np.zeros((2, 3)), dtype).block(0, 2).any()


def test_every_float16_is_widened_exactly() -> None:
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = bits[np.isfinite(bits)].reshape(-1, 16)
    table = Table.of(x.astype(np.float32), "float16")
    assert np.array_equal(table.block(0, len(x)), x.astype(np.float32))
    assert np.array_equal(np.signbit(table.block(0, len(x))), np.signbit(x))
    assert np.array_equal(table.rows(np.array([5, 3])), x[[5, 3]].astype(np.float32))


def test_rows_of_very_different_size_keep_their_own_precision() -> None:
    x = np.array([[1e4, -1e4], [1e-2, 5e-3], [1e-30, 1e-30]], np.float32)
    wide = Table.of(x, "int8").block(0, 3)
    assert np.allclose(wide[:2], x[:2], rtol=0.02) and np.isfinite(wide).all()


@pytest.mark.parametrize(
    ("x", "dtype", "message"),
    [
        (np.zeros(3, np.float32), "float32", "'x' must be a matrix"),
        (np.zeros((3, 0), np.float32), "float32", "'x' must be a matrix"),
        (np.zeros((3, 2), np.int64), "float32", "'x' must be floating point .got int64"),
        (np.array([[0.0], [np.nan]]), "int8", "'x' must be finite .row 1 is not"),
        (np.array([[1e300]]), "float32", "'x' must be finite"),
        (np.array([[1e5]]), "float16", "must fit into float16 .got 100000"),
        (np.zeros((3, 2)), "int2", "'dtype' must be one of"),
    ],
)
def test_bad_input(x: np.ndarray, dtype: str, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Table.of(x, dtype)


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = Table.of(np.ones((3, 4), np.float32), "int8").arrays()
    wrong = [
        ("int8", arrays, 5),
        ("float32", arrays, 4),
        ("int4", arrays, 4),
        ("int8", arrays | {"scale": arrays["scale"][:2]}, 4),
        ("int8", arrays | {"scale": arrays["scale"].astype(np.float32)}, 4),
        ("int8", arrays | {"unit": np.array([np.nan], np.float32)}, 4),
        ("int8", {"values": arrays["values"]}, 4),
    ]
    for dtype, found, dim in wrong:
        with pytest.raises(ValueError):
            Table.from_arrays(dtype, found, dim)
