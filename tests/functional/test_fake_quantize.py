from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyg_kd.functional import fake_quantize as exported
from pyg_kd.functional.fake_quantize import LARGEST, PARTS, STEPS, fake_quantize
from pyg_kd.retrieval import scales
from pyg_kd.retrieval.tables import Table

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
MATRICES = hnp.arrays(np.float32, SHAPES, elements=st.floats(-100, 100, width=32))
INTEGERS = st.sampled_from(["int8", "int4"])


def served(x: np.ndarray, dtype: str) -> np.ndarray:
    table = Table.of(x, dtype)
    return table.block(0, len(table))


@given(MATRICES, INTEGERS)
def test_training_sees_what_a_table_serves(x: np.ndarray, dtype: str) -> None:
    assert np.array_equal(fake_quantize(torch.from_numpy(x), dtype).numpy(), served(x, dtype))


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("spread", [0, 1, 9])
def test_so_do_large_tables_of_rows_of_all_sizes(dtype: str, spread: int) -> None:
    rng = np.random.default_rng(spread)
    size = np.exp(spread * rng.standard_normal((9000, 1)))
    x = (rng.standard_normal((9000, 30)) * size).astype(np.float32)
    x[5] = 0
    assert np.array_equal(fake_quantize(torch.from_numpy(x), dtype).numpy(), served(x, dtype))
    twice = fake_quantize(fake_quantize(torch.from_numpy(x), dtype), dtype).numpy()
    assert np.array_equal(twice, served(x, dtype))


def test_both_sides_agree_on_their_constants() -> None:
    assert (LARGEST, STEPS, PARTS) == (scales.LARGEST, scales.STEPS, scales.PARTS)


def test_gradients_pass_unchanged() -> None:
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 5, dtype=torch.float64)
    for dtype in ("int8", "int4"):
        (grad,) = torch.autograd.grad((fake_quantize(x, dtype) * weight).sum(), x)
        assert torch.equal(grad, weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_rounded_as_float32(dtype: torch.dtype) -> None:
    x = torch.randn(20, 6).to(dtype)
    found = fake_quantize(x, "int4")
    assert found.dtype == dtype and torch.equal(found, fake_quantize(x.float(), "int4").to(dtype))


def test_no_rows_and_rows_of_zeros() -> None:
    assert fake_quantize(torch.zeros(0, 3)).shape == (0, 3)
    assert torch.equal(fake_quantize(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_not_hidden(bad: float) -> None:
    x = torch.randn(4, 3)
    x[2, 1] = bad
    for dtype in ("int8", "int4"):
        assert not bool(fake_quantize(x, dtype)[2].isfinite().all())


def test_bad_input() -> None:
    assert exported is fake_quantize
    with pytest.raises(ValueError, match=r"'dtype' must be one of .*got 'int2'"):
        fake_quantize(torch.zeros(2, 3), "int2")
    for shape in ((3,), (3, 0)):
        with pytest.raises(ValueError, match=r"'x' must be a matrix \[n, d\]"):
            fake_quantize(torch.zeros(shape))
