from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pyg_kd.functional import (
    Adjacency,
    bpr_loss,
    edge_scores,
    full_topology_loss,
    gather_rows,
    hierarchical_topology_loss,
    list_likelihood_loss,
    list_scores,
    mixture_of_experts,
    propagate,
    softmax_loss,
)
from pyg_kd.functional.row_tables import as_rows, make_row_table
from pyg_kd.functional.sparse import (
    CSR,
    csr_matmul,
    require_one_device,
    row_matmul,
    sampled_matmul,
    selected_matmul,
    selected_matmul_backward,
    stacked_rows,
)

PTR = torch.tensor([0, 2, 2, 5, 6], dtype=torch.int32)
COL = torch.tensor([0, 3, 1, 2, 4, 3], dtype=torch.int32)
NUM_COLS = 6  # the last column has no entry, and neither has row 1


def dense(value: np.ndarray) -> np.ndarray:
    out = np.zeros((4, NUM_COLS))
    for row in range(4):
        for edge in range(int(PTR[row]), int(PTR[row + 1])):
            out[row, int(COL[edge])] += value[edge]
    return out


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 4e-2), (torch.half, 5e-3)],
)
def test_products_equal_dense_ones(dtype, tolerance):
    value, x = torch.randn(6).to(dtype), torch.randn(NUM_COLS, 3).to(dtype)
    y = torch.randn(4, 3).to(dtype)
    out = csr_matmul(PTR, COL, value, x)
    assert out.dtype == dtype
    expected = dense(value.double().numpy()) @ x.double().numpy()
    np.testing.assert_allclose(out.double().numpy(), expected, atol=tolerance, rtol=tolerance)

    scores = sampled_matmul(PTR, COL, y, x)
    assert scores.dtype == dtype
    full = y.double().numpy() @ x.double().numpy().T
    row = np.repeat(np.arange(4), np.diff(PTR.numpy()))
    expected = full[row, COL.numpy()]
    np.testing.assert_allclose(scores.double().numpy(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_patterns_without_entries_or_rows(dtype):
    none, x = torch.empty(0, dtype=torch.int32), torch.randn(NUM_COLS, 3).to(dtype)
    ptr = torch.zeros(5, dtype=torch.int32)
    assert csr_matmul(ptr, none, torch.empty(0).to(dtype), x).eq(torch.zeros(4, 3)).all()
    assert sampled_matmul(ptr, none, torch.randn(4, 3).to(dtype), x).shape == (0,)
    assert csr_matmul(ptr[:1], none, torch.empty(0).to(dtype), x).shape == (0, 3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_inputs_may_be_views(dtype, tolerance):
    x = torch.randn(3, NUM_COLS, dtype=dtype).t()
    expanded = torch.ones(1, 3, dtype=dtype).expand(NUM_COLS, 3)
    for value in (torch.randn(6, dtype=dtype), torch.randn(6, 2, dtype=dtype)[:, 0]):
        for view in (x, expanded):
            expected = dense(value.double().numpy()) @ view.double().numpy()
            product = csr_matmul(PTR, COL, value, view).double()
            np.testing.assert_allclose(product, expected, atol=tolerance)


@pytest.mark.parametrize("dim", [0, 1, 7, 16, 20, 64, 200])
def test_every_width_has_a_kernel(dim):
    generator = torch.Generator().manual_seed(dim)
    degree = torch.randint(40, (50,), generator=generator)
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), degree.cumsum(0)]).int()
    col = torch.randint(30, (int(ptr[-1]),), generator=generator)
    value, x = torch.randn(len(col), generator=generator), torch.randn(30, dim, generator=generator)
    matrix = np.zeros((50, 30))
    np.add.at(matrix, (np.repeat(np.arange(50), degree), col), value.double())
    product = csr_matmul(ptr, col.int(), value, x).double()
    np.testing.assert_allclose(product, matrix @ x.double().numpy(), atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_operators_keep_the_rules_of_the_dispatcher(dtype):
    x, y, value = (torch.randn(s).to(dtype) for s in ((NUM_COLS, 3), (4, 3), (6,)))
    torch.library.opcheck(csr_matmul, (PTR, COL, value, x))
    torch.library.opcheck(sampled_matmul, (PTR, COL, y, x))


def test_fake_tensors_have_the_shape_and_refuse_two_devices():
    with FakeTensorMode():
        ptr, col = (torch.empty(n, dtype=torch.int32, device="cuda") for n in (5, 6))
        value, x = torch.empty(6, device="cuda"), torch.empty(NUM_COLS, 3, device="cuda")
        out = csr_matmul(ptr, col, value, x)
        assert out.shape == (4, 3) and out.device.type == "cuda"
        assert sampled_matmul(ptr, col, torch.empty(4, 3, device="cuda"), x).shape == (6,)
        with pytest.raises(RuntimeError, match=r"one device .*'cpu', 'cuda:0'"):
            csr_matmul(ptr, col, value, torch.empty(NUM_COLS, 3))
        with pytest.raises(RuntimeError, match=r"one device .*'cpu', 'cuda:0'"):
            sampled_matmul(ptr, col, torch.empty(4, 3), x)


def test_require_one_device():
    require_one_device(PTR, COL)
    with pytest.raises(RuntimeError, match=r"\['cpu', 'meta'\]"):
        require_one_device(PTR, COL.to("meta"))


def pieces() -> dict[str, Tensor]:
    """The inputs of every loss below; the same at every call."""
    generator = torch.Generator().manual_seed(7)
    shapes = {"s": (40, 4), "t": (40, 6), "w1": (3, 4, 5), "b1": (3, 5), "w2": (3, 5, 6)}
    shapes |= {"b2": (3, 6), "z": (40, 3)}
    return {k: torch.randn(v, generator=generator) for k, v in shapes.items()}


def mixture(p: dict[str, Tensor], temperature: float) -> Tensor:
    z = (p["z"] / temperature).softmax(1)
    return mixture_of_experts(p["s"], z, *(p[k] for k in ("w1", "b1", "w2", "b2")))


def adjacency() -> Adjacency:
    value = torch.linspace(0.1, 0.6, 6)
    row = torch.tensor([0, 0, 2, 2, 2, 3], dtype=torch.int32)
    item = CSR(torch.tensor([0, 1, 2, 3, 5, 6, 6], dtype=torch.int32), row, value)
    order = torch.sort(COL, stable=True).indices
    item = CSR(item.ptr, row[order], value[order])
    return Adjacency(CSR(PTR, COL, value), item)


LISTS = torch.arange(40 * 5).view(40, 5) * 7 % 40
GROUP = torch.arange(40) % 3 % 2
LOSSES: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
    "edge_scores": lambda p: edge_scores(p["s"], p["s"], LISTS[:2]).square().sum(),
    "list_likelihood": lambda p: list_likelihood_loss(
        list_scores(p["s"], p["s"], LISTS), list_scores(p["s"], p["s"], LISTS.flip(0))
    ),
    "full_topology": lambda p: full_topology_loss(p["s"], p["t"]),
    "small_topology": lambda p: full_topology_loss(p["s"][:5], p["t"][:5]),
    "hierarchical_topology": lambda p: sum(hierarchical_topology_loss(p["s"], p["t"], GROUP, 2)),
    "positive_pairs": lambda p: sum(
        hierarchical_topology_loss(p["s"], p["t"], GROUP, 2, positive_pairs_only=True)
    ),
    "soft_experts": lambda p: (p["t"] - mixture(p, 1.0)).square().sum(),
    "sharp_experts": lambda p: (p["t"] - mixture(p, 1e-9)).square().sum(),
    "propagate": lambda p: sum(
        x.square().sum() for x in propagate(p["s"][:4], p["s"][4:10], adjacency(), 2)
    ),
    "bpr": lambda p: bpr_loss(p["s"][:, 0], p["s"][:, 1:]),
    "softmax": lambda p: softmax_loss(p["s"][:, 0], p["s"][:, 1:]),
}


@pytest.mark.parametrize("student", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_under_autocast(name, student):
    def value_and_gradient(enabled: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        p = pieces()
        leaf = p["s"].to(torch.bfloat16).to(dtype).requires_grad_()
        # A bfloat16 student is what a linear layer returns under autocast.
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = LOSSES[name](p | {"s": leaf})
        assert loss.dtype in (torch.float32, dtype)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert gradient.dtype == dtype
        return loss.detach().double(), gradient.double()

    expected, expected_gradient = value_and_gradient(False, torch.float32)
    loss, gradient = value_and_gradient(True, student)
    torch.testing.assert_close(loss, expected, rtol=2e-2, atol=0)
    scale = expected_gradient.norm().item()
    assert scale > 0
    assert (gradient - expected_gradient).norm().item() < 3e-2 * scale


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_more_entries_than_the_dense_matrix_has(dtype):
    # A list that repeats items, as padded lists over a small catalogue do.
    ptr = torch.tensor([0, 5, 5, 12], dtype=torch.int32)
    col = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1], dtype=torch.int32)
    x, y = torch.randn(3, 4).to(dtype), torch.randn(2, 4).to(dtype)
    row = [0] * 5 + [2] * 7
    expected = (x.double().numpy() @ y.double().numpy().T)[row, col.numpy()]
    scores = sampled_matmul(ptr, col, x, y)
    assert scores.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 4e-2
    np.testing.assert_allclose(scores.double().numpy(), expected, atol=tolerance)
    value = torch.randn(12, dtype=dtype)
    product = np.zeros((3, 4))
    for r, c, v in zip(row, col.tolist(), value.double().tolist(), strict=True):
        product[r] += v * y[c].double().numpy()
    out = csr_matmul(ptr, col, value, y)
    np.testing.assert_allclose(out.double().numpy(), product, atol=tolerance)


def test_under_autocast_the_kernels_return_float32():
    x, y, value = (torch.randn(s).bfloat16() for s in ((NUM_COLS, 3), (4, 3), (6,)))
    with torch.autocast("cpu", torch.bfloat16):
        product, scores = csr_matmul(PTR, COL, value, x), sampled_matmul(PTR, COL, y, x)
        assert csr_matmul(PTR, COL, value.double(), x.double()).dtype == torch.float64
    assert product.dtype == scores.dtype == torch.float32
    assert torch.equal(product, csr_matmul(PTR, COL, value.float(), x.float()))
    assert torch.equal(scores, sampled_matmul(PTR, COL, y.float(), x.float()))


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


def ragged(degrees: list[int], num_cols: int, dtype=torch.double) -> tuple[CSR, np.ndarray]:
    """A matrix with rows of these lengths, and the same entry by entry; columns may repeat."""
    rng = np.random.default_rng(sum(degrees))
    count = sum(degrees)
    col, value = rng.integers(0, num_cols, count), rng.standard_normal(count)
    dense = np.zeros((len(degrees), num_cols))
    row = np.repeat(np.arange(len(degrees)), degrees)
    np.add.at(dense, (row, col), torch.from_numpy(value).to(dtype).double().numpy())
    ptr = np.concatenate([[0], np.cumsum(degrees)])
    parts = (torch.from_numpy(v).to(torch.int32) for v in (ptr, col))
    return CSR(*parts, torch.from_numpy(value).to(dtype)), dense


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=8))
def test_value_and_gradient_of_any_rows(degrees, rows):
    matrix, dense = ragged(degrees, 7)
    rows = torch.tensor([r % len(degrees) for r in rows], dtype=torch.long)
    x = torch.randn(7, 3, dtype=torch.double, requires_grad=True)
    out = row_matmul(matrix, rows, x)
    assert out.shape == (len(rows), 3)
    np.testing.assert_allclose(out.detach(), dense[rows.numpy()] @ x.detach().numpy(), atol=1e-12)
    grad = torch.randn(3, len(rows), dtype=torch.double).t()
    (actual,) = torch.autograd.grad(out, x, grad)
    np.testing.assert_allclose(actual, dense[rows.numpy()].T @ grad.numpy(), atol=1e-12)


def test_gradcheck_of_row_matmul():
    matrix, _ = ragged([3, 0, 5, 1], 6)
    x = torch.randn(6, 2, dtype=torch.double, requires_grad=True)
    rows = torch.tensor([2, 1, 3, 2])
    assert torch.autograd.gradcheck(lambda x: row_matmul(matrix, rows, x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_precisions(dtype, autocast):
    matrix, dense = ragged([30, 2, 10], 20, torch.float32)
    x = torch.randn(20, 4).to(dtype).requires_grad_()
    rows = torch.tensor([0, 2])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = row_matmul(matrix, rows, x)
    assert out.dtype == (torch.float32 if autocast else dtype)
    expected = dense[rows.numpy()] @ x.detach().double().numpy()
    tolerance = 2e-2 if out.dtype == torch.bfloat16 else 1e-5
    np.testing.assert_allclose(out.detach().double(), expected, rtol=tolerance, atol=tolerance)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.dtype == dtype
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    expected = np.repeat(dense[rows.numpy()].sum(0)[:, None], 4, 1)
    np.testing.assert_allclose(grad.double(), expected, rtol=tolerance, atol=tolerance)


def test_operators_keep_the_rules_of_the_dispatcher_of_row_matmul():
    matrix, _ = ragged([3, 0, 5, 1], 6)
    rows, x, grad = torch.tensor([2, 0]), torch.randn(6, 2).double(), torch.randn(2, 2).double()
    torch.library.opcheck(selected_matmul, (*matrix, rows, x))
    torch.library.opcheck(selected_matmul_backward, (*matrix, rows, grad, 6))


def test_fake_tensors_have_the_shape_and_refuse_two_devices_of_row_matmul():
    def arguments(stray: int) -> list[Tensor]:
        shapes = ((5,), (6,), (6,), (2,), (9, 3))
        dtypes = (torch.int32, torch.int32, torch.float32, torch.int64, torch.float32)
        return [
            torch.empty(shape, dtype=dtype, device="cpu" if stray == k else "cuda")
            for k, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
        ]

    with FakeTensorMode():
        out = selected_matmul(*arguments(-1))
        assert out.shape == (2, 3) and out.device.type == "cuda"
        assert selected_matmul_backward(*arguments(-1), 7).shape == (7, 3)
        for stray in range(5):
            with pytest.raises(RuntimeError, match="one device"):
                selected_matmul(*arguments(stray))
            with pytest.raises(RuntimeError, match="one device"):
                selected_matmul_backward(*arguments(stray), 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("wrong", [-1, 6, 2**30])
def test_columns_out_of_range_never_reach_a_kernel(dtype: torch.dtype, wrong: int) -> None:
    ptr = torch.tensor([0, 2, 3], dtype=torch.int32)
    col = torch.tensor([5, wrong, 0], dtype=torch.int32)
    x, y = torch.ones(2, 4, dtype=dtype), torch.ones(6, 4, dtype=dtype)
    with pytest.raises(ValueError, match=rf"'col' must lie in 0\.\.5 \(got {wrong}\)"):
        sampled_matmul(ptr, col, x, y)
    with pytest.raises((ValueError, RuntimeError), match=f"{wrong}"):
        csr_matmul(ptr, col, torch.ones(3, dtype=dtype), y)


def test_row_matmul_reads_rows_of_a_table() -> None:
    ptr, col = torch.tensor([0, 2, 2, 4], dtype=torch.int32), torch.tensor([4, 1, 1, 3])
    matrix = CSR(ptr, col.int(), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    table, hidden = torch.randn(6, 2), torch.full((6, 2), torch.nan).requires_grad_()

    def read(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ids, place = index.unique(return_inverse=True)
        return as_rows(hidden, ids, table[ids]), place

    make_row_table(hidden, read)
    found = row_matmul(matrix, torch.tensor([2, 0, 1]), hidden)
    expected = [3 * table[1] + 4 * table[3], table[4] + 2 * table[1], torch.zeros(2)]
    torch.testing.assert_close(found, torch.stack(expected))
    (found * torch.tensor([[1.0], [10.0], [100.0]])).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad._indices().tolist() == [[1, 3, 4]]
    expected_grad = torch.tensor([0.0, 23.0, 0.0, 4.0, 10.0, 0.0]).unsqueeze(1).expand(6, 2)
    torch.testing.assert_close(hidden.grad.to_dense(), expected_grad)


def test_stacked_rows_reads_rows_of_a_table() -> None:
    table, hidden, other = torch.randn(6, 2), torch.full((6, 2), torch.nan), torch.randn(3, 2)

    def read(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ids, place = index.unique(return_inverse=True)
        return table[ids], place

    make_row_table(hidden, read)
    first, second = torch.tensor([4, 1, 4]), torch.tensor([2, 0])
    found = stacked_rows([hidden, other], [first, second])
    torch.testing.assert_close(found, torch.cat([table[first], other[second]]), rtol=0, atol=0)
