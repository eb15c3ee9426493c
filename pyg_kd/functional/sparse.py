"""Sparse matrices, rows of dense ones, and products of some rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

from pyg_kd.functional.kernels import MANY_ROWS, scatter_rows, transposed_matmul
from pyg_kd.functional.kernels import csr_matmul as csr_matmul
from pyg_kd.functional.kernels import keep_float32 as keep_float32
from pyg_kd.functional.kernels import require_one_device as require_one_device
from pyg_kd.functional.kernels import sampled_matmul as sampled_matmul
from pyg_kd.functional.row_tables import is_row_table, read_rows
from pyg_kd.graph import Neighbors, chosen_entries


class CSR(NamedTuple):
    """A sparse matrix: int32 ``ptr`` and ``col``, floating point ``value``."""

    ptr: Tensor
    col: Tensor
    value: Tensor

    @classmethod
    def of(cls, pattern: Neighbors, value: Tensor) -> CSR:
        """The matrix of a pattern with these entries, ``[nnz]``."""
        return cls(pattern.ptr.to(torch.int32), pattern.col.to(torch.int32), value)


def some_rows(matrix: CSR, rows: Tensor) -> CSR:
    """The chosen rows of a sparse matrix, int64 ``[B]``, in their order.

    Example:
        >>> ptr, col = torch.tensor([[0, 1, 3], [7, 8, 9]]).int()
        >>> some_rows(CSR(ptr, col, torch.ones(3)), torch.tensor([1, 0])).col
        tensor([8, 9, 7], dtype=torch.int32)
    """
    ptr, entry = chosen_entries(matrix.ptr, rows, torch.int32)
    return CSR(ptr, matrix.col.index_select(0, entry), matrix.value.index_select(0, entry))


P = TypeVar("P", CSR, Neighbors)


class HeldCSR(nn.Module, Generic[P]):
    """A sparse matrix, or a pattern, as buffers: it moves with the module that holds it, and is
    no part of its state.

    Args:
        csr: A :class:`CSR`, or the :class:`~pyg_kd.functional.Neighbors` of a graph.

    Example:
        >>> seen = HeldCSR(Neighbors(torch.tensor([0, 2]), torch.tensor([1, 3])))
        >>> seen.to("cpu").get().degree
        tensor([2])
    """

    def __init__(self, csr: P) -> None:
        super().__init__()
        self.kind: type[P] = type(csr)
        for name, value in zip(csr._fields, csr, strict=True):
            self.register_buffer(name, value, persistent=False)

    def get(self) -> P:
        """What is held, on the device it is on by now."""
        held: P = self.kind(*(getattr(self, name) for name in self.kind._fields))
        return held


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    r"""Rows of ``x`` (``[n, d]``) at ``index`` (int64 ``[...]``): ``[..., d]``.

    Equals ``x[index]``, but backward sums repeated rows in a fraction of the time of an indexed
    add. Of a table of rows it returns the gradients of these rows alone.
    """
    x, index = read_rows(x, index)
    if x.device.type != "cpu":
        return embedding(index, x)
    if index.numel() >= MANY_ROWS and x.requires_grad:
        out: Tensor = _GatherRows.apply(x, index.flatten())
    else:
        out = x.index_select(0, index.flatten())
    return out.view(*index.shape, x.size(1))


def stacked_rows(tables: Sequence[Tensor], indices: Sequence[Tensor]) -> Tensor:
    r"""Some rows of several constant tables of one width, one below the other.

    Equals ``torch.cat([x[i], ...])`` without copying the rows twice.

    Example:
        >>> x = torch.tensor([[1.0], [2.0]])
        >>> stacked_rows([x, 10 * x], [torch.tensor([1]), torch.tensor([1, 0])]).flatten()
        tensor([ 2., 20., 10.])
    """
    read = [read_rows(x, index) for x, index in zip(tables, indices, strict=True)]
    sizes = [len(index) for index in indices]
    out = read[0][0].new_empty(sum(sizes), tables[0].size(1))
    for (x, index), part in zip(read, out.split(sizes), strict=True):
        torch.index_select(x, 0, index, out=part)
    return out


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.size = x.size(0)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _ScatterRows.apply(grad, index, ctx.size), None


class _ScatterRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, num_rows: int) -> Tensor:
        ctx.save_for_backward(index)
        return scatter_rows(values, index, num_rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return _GatherRows.apply(grad, index), None, None


def row_matmul(matrix: CSR, rows: Tensor, x: Tensor) -> Tensor:
    r"""Product of some rows of a constant sparse matrix with ``x``.

    The cost is that of the entries of these rows, forward and backward, however unevenly they
    are distributed.

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
    if is_row_table(x):
        matrix = some_rows(matrix, rows)
        x, col = read_rows(x, matrix.col)
        matrix = matrix._replace(col=col.to(torch.int32))
        rows = torch.arange(len(rows), device=rows.device)
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


# Data-dependent output shapes: opaque custom ops.
@torch.library.custom_op("pyg_kd::selected_matmul", mutates_args=())
def selected_matmul(ptr: Tensor, col: Tensor, value: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    """Forward of :func:`row_matmul`."""
    out: Tensor = csr_matmul(*some_rows(CSR(ptr, col, value), rows), x)
    return out


@torch.library.custom_op("pyg_kd::selected_matmul_backward", mutates_args=())
def selected_matmul_backward(
    ptr: Tensor, col: Tensor, value: Tensor, rows: Tensor, grad: Tensor, num_cols: int
) -> Tensor:
    """The transposed rows times ``grad`` (``[B, d]``): ``[num_cols, d]``."""
    out: Tensor = transposed_matmul(*some_rows(CSR(ptr, col, value), rows), grad, num_cols)
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
