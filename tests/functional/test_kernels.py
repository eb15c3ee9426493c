from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from pyg_kd.functional import kernels
from pyg_kd.functional.kernels import csr_matmul, scatter_rows, transposed_matmul

PTR = torch.tensor([0, 2, 2, 5, 6], dtype=torch.int32)
COL = torch.tensor([0, 3, 1, 3, 3, 3], dtype=torch.int32)  # an entry twice, and columns without any


def by_hand(ptr, col, value, x, num_cols):
    out = np.zeros((num_cols, x.shape[1]))
    for row in range(len(ptr) - 1):
        for entry in range(int(ptr[row]), int(ptr[row + 1])):
            out[int(col[entry])] += float(value[entry]) * x[row].double().numpy()
    return out


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 4e-2), (torch.half, 5e-3)],
)
def test_every_entry_adds_its_row(dtype, tolerance):
    torch.manual_seed(0)
    value, x = torch.randn(6).to(dtype), torch.randn(4, 3).to(dtype)
    out = transposed_matmul(PTR, COL, value, x, 5)
    assert out.dtype == dtype
    expected = by_hand(PTR, COL, value, x, 5)
    np.testing.assert_allclose(out.double().numpy(), expected, atol=tolerance, rtol=tolerance)


@given(st.integers(0, 5), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**30))
def test_it_is_the_product_with_the_transpose(rows, cols, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    degree = torch.randint(0, 4, (rows,), generator=generator)
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), degree.cumsum(0)]).int()
    col = torch.randint(cols, (int(degree.sum()),), generator=generator).int()
    value = torch.randn(len(col), generator=generator, dtype=torch.double)
    x = torch.randn(rows, dim, generator=generator, dtype=torch.double)
    dense = csr_matmul(ptr, col, value, torch.eye(cols, dtype=torch.double))
    out = transposed_matmul(ptr, col, value, x, cols)
    torch.testing.assert_close(out, dense.t() @ x, rtol=1e-12, atol=1e-12)


def test_rows_of_another_layout_and_with_a_gradient_are_read_as_they_are():
    x = torch.randn(3, 4).t().requires_grad_()
    value = torch.randn(6, requires_grad=True)
    with torch.no_grad():
        out = transposed_matmul(PTR, COL, value, x, 5)
    expected = by_hand(PTR, COL, value.detach(), x.detach(), 5)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_column_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"'col' .* 0\.\.2 .*3"):
        transposed_matmul(PTR, COL, torch.ones(6), torch.ones(4, 2), 3)


def test_the_operator_is_sound():
    torch.library.opcheck(transposed_matmul, (PTR, COL, torch.randn(6), torch.randn(4, 3), 5))


def test_other_devices_have_their_shapes():
    with FakeTensorMode():
        ptr, col = (torch.empty(n, dtype=torch.int32, device="cuda") for n in (5, 6))
        value, x = torch.empty(6, device="cuda"), torch.empty(4, 3, device="cuda")
        out = transposed_matmul(ptr, col, value, x, 7)
        assert out.shape == (7, 3) and out.device.type == "cuda"
        with pytest.raises(RuntimeError, match=r"one device .*'cpu', 'cuda:0'"):
            transposed_matmul(ptr, col, value, torch.empty(4, 3), 7)


def test_under_autocast_it_stays_in_float32():
    x = torch.randn(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = transposed_matmul(PTR, COL, torch.ones(6, dtype=torch.bfloat16), x, 5)
    torch.testing.assert_close(out, transposed_matmul(PTR, COL, torch.ones(6), x, 5))


@pytest.mark.parametrize("many", [0, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_repeated_rows_are_summed(monkeypatch, many, dtype):
    monkeypatch.setattr(kernels, "MANY_ROWS", many)
    torch.manual_seed(0)
    index, values = torch.randint(4, (30,)), torch.randn(30, 3, dtype=dtype)
    expected = np.zeros((6, 3))
    for place, row in zip(index.tolist(), values.double().numpy(), strict=True):
        expected[place] += row
    out = scatter_rows(values, index, 6)
    assert out.dtype == dtype
    np.testing.assert_allclose(out.double().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_both_ways_to_sum_rows_have_the_same_bits(monkeypatch):
    torch.manual_seed(0)
    index, values = torch.randint(10, (500,)), torch.randn(500, 7)
    found = []
    for many in (0, 1000):
        monkeypatch.setattr(kernels, "MANY_ROWS", many)
        found.append(scatter_rows(values, index, 10))
    assert torch.equal(*found)
