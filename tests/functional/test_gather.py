from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.functional import gather_rows


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.lists(st.integers(0, 4), min_size=0, max_size=3),
    st.integers(0, 99),
)
def test_value_and_gradient(num_rows, dim, shape, seed):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((num_rows, dim))).requires_grad_()
    index = rng.integers(0, num_rows, shape)
    out = gather_rows(x, torch.as_tensor(index))
    np.testing.assert_array_equal(out.detach().numpy(), x.detach().numpy()[index])
    weight = rng.standard_normal((*shape, dim))
    (gradient,) = torch.autograd.grad((out * torch.from_numpy(weight)).sum(), x)
    expected = np.zeros((num_rows, dim))
    for place in np.ndindex(*shape):
        expected[index[place]] += weight[place]
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_gradcheck():
    x = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    index = torch.tensor([[0, 4, 4], [2, 0, 0]])
    assert torch.autograd.gradcheck(lambda x: gather_rows(x, index), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
def test_precisions_stay(dtype, index_dtype):
    x = torch.randn(5, 3).to(dtype).requires_grad_()
    out = gather_rows(x, torch.tensor([1, 1, 4], dtype=index_dtype))
    assert out.dtype == dtype
    out.sum().backward()
    assert x.grad.dtype == dtype and x.grad[:, 0].tolist() == [0, 2, 0, 0, 1]


@pytest.mark.parametrize("index", [-1, 5])
def test_out_of_range(index):
    with pytest.raises(IndexError, match="out of range"):
        gather_rows(torch.ones(5, 2), torch.tensor([0, index]))
