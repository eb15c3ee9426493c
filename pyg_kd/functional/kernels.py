"""The sparse kernels that everything rests on.

A CSR pattern is two int32 tensors, ``ptr`` ``[rows + 1]`` and ``col`` ``[nnz]``. The kernels are
operators with shape functions, so fake tensors and tracers see through them.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse._sparsetools import csc_matvecs
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch_geometric.index import index2ptr

from pyg_kd.functional.operators import operator, shapes_of
from pyg_kd.graph import check_ids

with warnings.catch_warnings():
    # PyTorch warns once per process that CSR support is in beta: swallow that here.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 1], [0], [1.0], size=(1, 1), dtype=torch.float32)


def _csr(ptr: Tensor, col: Tensor, value: Tensor, num_cols: int) -> Tensor:
    size = (ptr.numel() - 1, num_cols)
    return torch.sparse_csr_tensor(ptr, col, value, size, check_invariants=False)


def _check_columns(col: Tensor, num_cols: int) -> None:
    """Raise ``ValueError`` for a column out of range, as the kernels of the CPU read anything.

    It takes a sixtieth of a product's time there; on a GPU it would have to wait for the device.
    """
    if col.device.type == "cpu":
        check_ids("col", col, num_cols)


def _kernel_dtype(x: Tensor) -> torch.dtype:
    """Half precisions have no CSR kernels on the CPU, so they are computed in float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@operator("pyg_kd::csr_matmul")
def csr_matmul(ptr: Tensor, col: Tensor, value: Tensor, x: Tensor) -> Tensor:
    """Product of a sparse ``[rows, n]`` matrix with a dense ``[n, d]`` one: ``[rows, d]``."""
    dtype = _kernel_dtype(x)
    value, dense = value.to(dtype), x.to(dtype)
    if x.numel() == 0:
        # On some processors the embedding kernel refuses a table without columns.
        return x.new_zeros(ptr.numel() - 1, x.size(1))
    if x.device.type == "cpu" and dtype == torch.float32:
        # A row is a bag of weighted embeddings, a kernel that is two to five times as fast.
        product = embedding_bag(
            col, dense, ptr, mode="sum", per_sample_weights=value, include_last_offset=True
        )
        return product.to(x.dtype)
    _check_columns(col, x.size(0))
    matrix = _csr(ptr, col, value, x.size(0))
    out = torch.empty(ptr.numel() - 1, x.size(1), dtype=dtype, device=x.device)
    return torch.addmm(out, matrix, dense, beta=0, out=out).to(x.dtype)


@shapes_of("pyg_kd::csr_matmul")
def _(ptr: Tensor, col: Tensor, value: Tensor, x: Tensor) -> Tensor:
    require_one_device(ptr, col, value, x)
    return x.new_empty(ptr.numel() - 1, x.size(1))


@operator("pyg_kd::sampled_matmul")
def sampled_matmul(ptr: Tensor, col: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Entries of ``x @ y.T`` (``[rows, d]`` and ``[n, d]``) on the pattern: ``[nnz]``."""
    dtype = _kernel_dtype(x)
    if col.numel() > x.size(0) * y.size(0):
        # The kernel refuses patterns of more entries than the dense product, which is smaller.
        row = torch.repeat_interleave(ptr.diff(), output_size=col.numel())
        dense = x.to(dtype) @ y.to(dtype).t()
        return dense[row.long(), col.long()].to(x.dtype)
    _check_columns(col, y.size(0))
    # The kernel writes where it reads: without a copy, which for large patterns costs as much.
    pattern = _csr(ptr, col, torch.zeros(col.numel(), dtype=dtype, device=x.device), y.size(0))
    torch.sparse.sampled_addmm(pattern, x.to(dtype), y.to(dtype).t(), beta=0.0, out=pattern)
    values: Tensor = pattern.values()
    return values.to(x.dtype)


@shapes_of("pyg_kd::sampled_matmul")
def _(ptr: Tensor, col: Tensor, x: Tensor, y: Tensor) -> Tensor:
    require_one_device(ptr, col, x, y)
    return x.new_empty(col.numel())


def keep_float32(*names: str) -> None:
    """Run operators in float32 under autocast: no kernel here supports half precision."""
    for name in names:
        for device_type in ("cpu", "cuda"):
            torch.library.register_autocast(name, device_type, torch.float32)


keep_float32("pyg_kd::csr_matmul", "pyg_kd::sampled_matmul")


def require_one_device(*tensors: Tensor) -> None:
    """Raise ``RuntimeError`` if the tensors of one operator are on several devices."""
    devices = {str(t.device) for t in tensors}
    if len(devices) > 1:
        raise RuntimeError(f"expected all tensors on one device (got {sorted(devices)})")


@operator("pyg_kd::transposed_matmul")
def transposed_matmul(ptr: Tensor, col: Tensor, value: Tensor, x: Tensor, num_cols: int) -> Tensor:
    r"""Product of the transpose of a sparse matrix with a dense one.

    On the CPU every entry adds its row of ``x`` to a row of the result, in the order of the
    entries: a third of the time of sorting them by column and taking the product.

    Args:
        ptr: The matrix, int32 ``[R + 1]``.
        col: Its columns, int32 ``[nnz]``.
        value: Its entries, ``[nnz]``.
        x: ``[R, d]``.
        num_cols: Number of columns, ``n``.

    Returns:
        ``[n, d]``, in the dtype of ``x``.

    Raises:
        ValueError: If a column is out of range.

    Example:
        >>> ptr, col = torch.tensor([[0, 2, 3], [2, 0, 2]], dtype=torch.int32)
        >>> transposed_matmul(ptr, col, torch.ones(3), torch.tensor([[1.0], [10.0]]), 3).flatten()
        tensor([ 1.,  0., 11.])
    """
    if x.numel() == 0:
        return x.new_zeros(num_cols, x.size(1))
    if x.device.type != "cpu":
        col, order = torch.sort(col, stable=True)
        rows = torch.arange(len(ptr) - 1, device=ptr.device, dtype=torch.int32)
        row = rows.repeat_interleave(ptr.diff(), output_size=len(col))
        out: Tensor = csr_matmul(index2ptr(col, num_cols).int(), row[order], value[order], x)
        return out
    check_ids("col", col, num_cols)  # the kernel writes wherever it is told to
    if len(ptr) != len(x) + 1 or int(ptr[-1]) != len(col) or len(value) != len(col):
        raise ValueError(
            f"'ptr' must have an end more than the {len(x)} rows of 'x', and end with the number "
            f"of columns and of values (got {len(ptr)} ends to {int(ptr[-1])}, {len(col)} columns "
            f"and {len(value)} values)"
        )
    product = torch.zeros(num_cols, x.size(1), dtype=_kernel_dtype(x), device=x.device)
    _add_transposed(product, ptr.numpy(), col.to(ptr.dtype), value, x)
    return product.to(x.dtype)


def _add_transposed(out: Tensor, ptr: NDArray[Any], col: Tensor, value: Tensor, x: Tensor) -> None:
    """Add a product with a transpose to a contiguous table, in place. Nothing is checked."""
    value, x = value.detach().to(out.dtype), x.detach().to(out.dtype)
    # Few calls: for a small batch they take longer than the kernel.
    arrays = (t.numpy().ravel() for t in (col, value, x, out))
    csc_matvecs(len(out), len(x), x.size(1), ptr, *arrays)


def row_ends(ids: Tensor) -> Tensor:
    """Where rows of one width end, one after the other, int32 ``[R + 1]``; ``ids`` ``[R, w]``."""
    ends = torch.arange(len(ids) + 1, device=ids.device, dtype=torch.int32)
    return ends.mul_(ids.size(1))


def add_rows(out: Tensor, ids: Tensor, value: Tensor, x: Tensor) -> None:
    r"""Add rows with weights to rows of a table, in place, on the CPU.

    Args:
        out: ``[n, d]``, contiguous, float32 or float64.
        ids: Rows of it, int32 or int64, ``[R, w]``. They are *not* checked: who calls this has
            read the rows.
        value: Weights, ``[R, w]``.
        x: What is added ``w`` times, ``[R, d]``.

    Example:
        >>> out, ids = torch.zeros(3, 1), torch.tensor([[2, 2], [0, 2]])
        >>> add_rows(out, ids, torch.ones(2, 2), torch.tensor([[1.0], [10.0]]))
        >>> out.flatten()
        tensor([10.,  0., 12.])
    """
    col, width = ids.numpy(), ids.size(1)
    ends = np.arange(0, len(ids) * width + 1, width, dtype=col.dtype)
    _add_transposed(out, ends, ids, value, x)


@shapes_of("pyg_kd::transposed_matmul")
def _(ptr: Tensor, col: Tensor, value: Tensor, x: Tensor, num_cols: int) -> Tensor:
    require_one_device(ptr, col, value, x)
    return x.new_empty(num_cols, x.size(1))


keep_float32("pyg_kd::transposed_matmul")

#: Rows from which on the kernel above beats an indexed add, whose rows cost more the more there are
#: (65 ns a row of 20 numbers at 70,000 rows, 10 ns by the kernel).
MANY_ROWS = 4096


def scatter_rows(values: Tensor, index: Tensor, num_rows: int) -> Tensor:
    r"""Sum the rows of ``values`` that have the same index.

    Args:
        values: ``[m, d]``.
        index: Integers below ``num_rows``, ``[m]``.
        num_rows: ``n``.

    Returns:
        ``[n, d]``.

    Example:
        >>> scatter_rows(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([2, 0, 2]), 3).flatten()
        tensor([2., 0., 5.])
    """
    if values.device.type != "cpu":  # with the same bits every time, unlike an indexed add
        back = torch.ops.aten.embedding_dense_backward
        summed: Tensor = back(values, index, num_rows, -1, False)
        return summed
    if len(index) < MANY_ROWS:
        out = values.new_zeros(num_rows, values.size(1))
        return out.index_add_(0, index, values)
    ptr = torch.arange(len(index) + 1, device=index.device, dtype=torch.int32)
    one = values.new_ones(len(index))
    scattered: Tensor = transposed_matmul(ptr, index.to(torch.int32), one, values, num_rows)
    return scattered
