"""Some rows of a constant sparse matrix times a dense one, with a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.index import index2ptr

from pyg_kd.functional.propagate import CSR
from pyg_kd.functional.sparse import csr_matmul, keep_float32, require_one_device
from pyg_kd.graph import entries_of


def row_matmul(matrix: CSR, rows: Tensor, x: Tensor) -> Tensor:
    r"""Product of some rows of a constant sparse matrix with ``x``.

    Rows may be of very different lengths: the cost is that of their entries,
    forward and backward.

    Args:
        matrix: ``[R, n]``, constant.
        rows: Rows to take, int64 ``[B]``.
        x: ``[n, d]``.

    Returns:
        ``[B, d]``.

    Example:
        >>> ptr, col = torch.tensor([[0, 0, 2], [0, 1, -1]], dtype=torch.int32)
        >>> matrix = CSR(ptr, col[:2], torch.tensor([1.0, 10.0]))
        >>> row_matmul(matrix, torch.tensor([1, 0]), torch.tensor([[1.0], [2.0]]))
        tensor([[21.],
                [ 0.]])
    """
    out: Tensor = _RowMatmul.apply(*matrix, rows, x)
    return out


class _RowMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ptr: Tensor, col: Tensor, value: Tensor, rows: Tensor, x: Tensor) -> Any:
        ctx.save_for_backward(ptr, col, value, rows)
        ctx.size, ctx.dtype = x.size(0), x.dtype
        return selected_matmul(ptr, col, value, rows, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = selected_matmul_backward(*ctx.saved_tensors, grad.contiguous(), ctx.size)
        return None, None, None, None, grad_x.to(ctx.dtype)


# How many entries the rows have depends on their numbers, so shapes end at the operators.
@torch.library.custom_op("pyg_kd::selected_matmul", mutates_args=())
def selected_matmul(ptr: Tensor, col: Tensor, value: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    """Forward of :func:`row_matmul`."""
    row, entry = entries_of(ptr, rows)
    ptr = index2ptr(row, len(rows)).to(torch.int32)
    out: Tensor = csr_matmul(ptr, col[entry], value[entry], x)
    return out


@torch.library.custom_op("pyg_kd::selected_matmul_backward", mutates_args=())
def selected_matmul_backward(
    ptr: Tensor, col: Tensor, value: Tensor, rows: Tensor, grad: Tensor, num_cols: int
) -> Tensor:
    """The transposed rows times ``grad`` (``[B, d]``): ``[num_cols, d]``."""
    row, entry = entries_of(ptr, rows)
    col, order = torch.sort(col[entry], stable=True)
    ptr = index2ptr(col, num_cols).to(torch.int32)
    row = row[order].to(torch.int32)
    out: Tensor = csr_matmul(ptr, row, value[entry[order]], grad)
    return out


@selected_matmul.register_fake
def _(ptr: Tensor, col: Tensor, value: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    require_one_device(ptr, col, value, rows, x)
    return x.new_empty(len(rows), x.size(1))


@selected_matmul_backward.register_fake
def _(ptr: Tensor, col: Tensor, value: Tensor, rows: Tensor, grad: Tensor, num_cols: int) -> Tensor:
    require_one_device(ptr, col, value, rows, grad)
    return grad.new_empty(num_cols, grad.size(1))


keep_float32("pyg_kd::selected_matmul", "pyg_kd::selected_matmul_backward")
