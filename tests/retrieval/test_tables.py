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


def _rounded(x: np.ndarray, steps: float, largest: int) -> np.ndarray:
    """Rows in float64, rounded to whole multiples of their largest value over ``steps``."""
    exact = x.astype(np.float64)
    scale = np.abs(exact).max(1, keepdims=True) / steps
    codes = np.rint(exact / np.where(scale > 0, scale, 1)).clip(-largest, largest)
    return codes * scale


@given(MATRICES)
def test_int8_is_within_half_a_step(x: np.ndarray) -> None:
    exact = x.astype(np.float64)
    step = np.abs(exact).max(1, keepdims=True) / 127
    error = np.abs(Table.of(x, "int8").block(0, len(x)) - exact)
    # float16 rounds a scale by at most a 1024th, and below 2**-29 of the largest all to that.
    assert (error <= (0.5 + 1e-3) * step * (1 + 2**-10) + step.max() * 2.0**-28 + 1e-36).all()


@given(MATRICES)
def test_int4_loses_least_of_three_scales(x: np.ndarray) -> None:
    exact = x.astype(np.float64)
    top = np.abs(exact).max(1)
    losses = [np.square(_rounded(x, steps, 7) - exact).sum(1) for steps in (7, 7.5, 8)]
    found = np.square(Table.of(x, "int4").block(0, len(x)) - exact).sum(1)
    # Errors are compared in 64ths of a step, and float16 rounds the scale.
    slack = 0.01 * np.min(losses, 0) + 2e-3 * top**2 * x.shape[1] / 49
    assert (found <= np.min(losses, 0) + slack + (top.max() * 2.0**-28) ** 2 * 100 + 1e-36).all()


def test_cutting_off_the_largest_value_can_lose_less() -> None:
    x = np.array([[7.5, 1.0, 2.0, -3.0, 4.0, 5.0, 6.0]], np.float32)
    assert np.allclose(Table.of(x, "int4").block(0, 1), x.clip(-7, 7), rtol=2**-9)


@given(MATRICES, st.sampled_from(["int8", "int4"]))
def test_what_a_table_gives_back_goes_into_another_unchanged(x: np.ndarray, dtype: str) -> None:
    wide = Table.of(x, dtype).block(0, len(x))
    assert np.array_equal(Table.of(wide, dtype).block(0, len(x)), wide)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_also_where_rows_are_of_all_sizes(dtype: str) -> None:
    rng = np.random.default_rng(0)
    sizes = 10.0 ** rng.uniform(-37, 36, (2000, 1))
    for dim in (1, 2, 20):
        x = (rng.uniform(-1, 1, (2000, dim)) * sizes).astype(np.float32)
        for part in (x, x[sizes[:, 0] < 1e-20], x[sizes[:, 0] < 1e-30]):
            wide = Table.of(part, dtype).block(0, len(part))
            assert np.array_equal(Table.of(wide, dtype).block(0, len(part)), wide)


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
        found = Table.of(x, dtype).block(0, 3)
        assert np.allclose(found, x, rtol=2**-9) and not found[[0, 2]].any()
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
        (np.array([[1e38]]), "int8", "'x' must be below 1e38 for int8 .got 1e.38"),
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
