"""Embedding tables of which a step reads and trains only the rows of its batch.

Whoever trains such a table hands out the rows that are read, and gets gradients of these rows
alone. What is no such table is read as any tensor is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Called with the ids, integers of any shape, of rows that are about to be read; returns a tensor
#: that has these rows, ``[R, d]``, and where in it they are, in the shape of the ids.
Reader = Callable[[Tensor], tuple[Tensor, Tensor]]

_READER = "_pyg_kd_reader"


def make_row_table(table: Tensor, reader: Reader) -> None:
    """Make a leaf tensor a table of rows, which ``reader`` reads."""
    setattr(table, _READER, reader)


def end_row_table(table: Tensor) -> None:
    """Make it a tensor like any other again."""
    if is_row_table(table):
        delattr(table, _READER)


def is_row_table(x: Tensor) -> bool:
    """Whether gradients are wanted of the rows that are read, and of no others."""
    return hasattr(x, _READER)


def read_rows(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor that has the rows of ``x`` at ``index``, and where in it they are.

    Of a table of rows, its distinct rows that are asked for, ascending, and their places among
    these; otherwise ``x`` and ``index`` as they are. Gradients go back to ``x`` either way.

    Args:
        x: ``[n, d]``.
        index: Which rows, integers of any shape.

    Example:
        >>> x, index = torch.eye(3), torch.tensor([2, 0])
        >>> read_rows(x, index)[1]
        tensor([2, 0])
    """
    reader: Reader | None = getattr(x, _READER, None)
    return (x, index) if reader is None else reader(index)


def read_lists(x: Tensor, lists: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`read_rows`, of ids padded with -1, whose place is that of any row that is read.

    Example:
        >>> read_lists(torch.eye(3), torch.tensor([[2, -1]]))[1]
        tensor([[2, 0]])
    """
    if not is_row_table(x) or not lists.numel():
        return x, lists.clamp(min=0)
    # A row that is listed: others need not be at hand.
    return read_rows(x, torch.where(lists < 0, lists.max().clamp(min=0), lists))


def as_rows(table: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """``values``, ``[R, d]``, as the distinct ``rows`` of a table, whose gradients go to these.

    Args:
        table: A leaf, ``[n, d]``. Its own values are not looked at.
        rows: Ascending ids, int64 ``[R]``.
        values: Their values by now.
    """
    out: Tensor = _AsRows.apply(table, rows, values)
    return out


class _AsRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape, ctx.dtype = table.shape, table.dtype
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        grad_table = torch.sparse_coo_tensor(
            rows.unsqueeze(0), grad.to(ctx.dtype), ctx.shape,
            check_invariants=False, is_coalesced=True,
        )  # fmt: skip
        return grad_table, None, None
