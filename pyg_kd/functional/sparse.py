"""The two sparse kernels that everything rests on, and products of some rows built on them.

A CSR pattern is two int32 tensors, ``ptr`` ``[rows + 1]`` and ``col`` ``[nnz]``. The kernels are
custom operators with shape functions, so fake tensors and tracers see through them.
"""

from __future__ import annotations

import warnings
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, embedding_bag
from torch_geometric.index import index2ptr

from pyg_kd.functional.row_tables import is_row_table, read_rows
from pyg_kd.graph import Neighbors, check_ids, entries_of

with warnings.catch_warnings():
    # PyTorch warns once per process that CSR support is in beta: swallow that here.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 1], [0], [1.0], size=(1, 1), dtype=torch.float32)


class CSR(NamedTuple):
    """A sparse matrix: int32 ``ptr`` and ``col``, floating point ``value``."""

    ptr: Tensor
    col: Tensor
    value: Tensor


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


@torch.library.custom_op("pyg_kd::csr_matmul", mutates_args=())
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


@csr_matmul.register_fake
def _(ptr: Tensor, col: Tensor, value: Tensor, x: Tensor) -> Tensor:
    require_one_device(ptr, col, value, x)
    return x.new_empty(ptr.numel() - 1, x.size(1))


@torch.library.custom_op("pyg_kd::sampled_matmul", mutates_args=())
def sampled_matmul(ptr: Tensor, col: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Entries of ``x @ y.T`` (``[rows, d]`` and ``[n, d]``) on the pattern: ``[nnz]``."""
    dtype = _kernel_dtype(x)
    if col.numel() > x.size(0) * y.size(0):
        # The kernel refuses patterns of more entries than the dense product, which is smaller.
        row = torch.repeat_interleave(ptr.diff(), output_size=col.numel())
        dense = x.to(dtype) @ y.to(dtype).t()
        return dense[row.long(), col.long()].to(x.dtype)
    _check_columns(col, y.size(0))
    pattern = _csr(ptr, col, torch.zeros(col.numel(), dtype=dtype, device=x.device), y.size(0))
    scores = torch.sparse.sampled_addmm(pattern, x.to(dtype), y.to(dtype).t(), beta=0.0)
    values: Tensor = scores.values()
    return values.to(x.dtype)


@sampled_matmul.register_fake
def _(ptr: Tensor, col: Tensor, x: Tensor, y: Tensor) -> Tensor:
    require_one_device(ptr, col, x, y)
    return x.new_empty(col.numel())


def keep_float32(*operators: str) -> None:
    """Run ``operators`` in float32 under autocast: no kernel here supports half precision."""
    for operator in operators:
        for device_type in ("cpu", "cuda"):
            torch.library.register_autocast(operator, device_type, torch.float32)


keep_float32("pyg_kd::csr_matmul", "pyg_kd::sampled_matmul")


def require_one_device(*tensors: Tensor) -> None:
    """Raise ``RuntimeError`` if the tensors of one operator are on several devices."""
    devices = {str(t.device) for t in tensors}
    if len(devices) > 1:
        raise RuntimeError(f"expected all tensors on one device (got {sorted(devices)})")


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    r"""Rows of ``x`` (``[n, d]``) at ``index`` (int64 ``[...]``): ``[..., d]``.

    Equals ``x[index]``, but backward runs the kernel of an embedding table, which sums repeated
    rows in a fraction of the time of an indexed add. Of a table of rows it returns the gradients
    of these rows alone.
    """
    x, index = read_rows(x, index)
    return embedding(index, x)


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
        row, entry = entries_of(matrix.ptr, rows)
        x, col = read_rows(x, matrix.col[entry])
        ptr = index2ptr(row, len(rows)).to(torch.int32)
        matrix = CSR(ptr, col.to(torch.int32), matrix.value[entry])
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
