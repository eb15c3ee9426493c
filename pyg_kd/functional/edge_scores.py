"""Scores on candidate edges: inner products of users with listed items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.index import index2ptr

from pyg_kd.functional.row_tables import before_reading, is_row_table
from pyg_kd.functional.sparse import csr_matmul, sampled_matmul
from pyg_kd.graph import check_ids


def edge_scores(x_user: Tensor, x_item: Tensor, edge_index: Tensor) -> Tensor:
    r"""Inner products on the edges of a candidate graph.

    .. math::
        s_e = \langle x_{u(e)}, x_{i(e)} \rangle

    Forward is one sampled dense-dense product and backward two sparse products, so no ``[E, d]``
    tensor is formed. Edges that are sorted by user save a sort.

    Args:
        x_user: ``[U, d]``.
        x_item: ``[I, d]``.
        edge_index: Candidate edges, int64 ``[2, E]``, in any order.

    Returns:
        Scores in the order of the edges, ``[E]``.

    Raises:
        ValueError: If the widths differ, ``edge_index`` is not ``[2, E]``, or an id
            is out of range.

    Example:
        >>> x_user, x_item = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> edge_scores(x_user, x_item, torch.tensor([[1, 0], [0, 1]]))
        tensor([2., 3.])
    """
    if x_user.dim() != 2 or x_item.dim() != 2 or x_user.size(1) != x_item.size(1):
        raise ValueError(
            "'x_user' and 'x_item' must be matrices of one width "
            f"(got {list(x_user.shape)} and {list(x_item.shape)})"
        )
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"'edge_index' must have shape [2, E] (got {list(edge_index.shape)})")
    row, col = edge_index
    # The kernels do not check ids, and would read out of bounds.
    check_ids("edge_index[1]", col, x_item.size(0))
    if bool((row[1:] < row[:-1]).any()):
        row, order = torch.sort(row, stable=True)
        scores = _score(x_user, x_item, row, col[order])
        return torch.empty_like(scores).index_copy(0, order, scores)
    return _score(x_user, x_item, row, col)


def list_scores(x_user: Tensor, x_item: Tensor, items: Tensor) -> Tensor:
    r"""Scores of each user's own list of items.

    Args:
        x_user: ``[B, d]``.
        x_item: ``[I, d]``.
        items: Item ids, int64 ``[B, K]``, padded with -1.

    Returns:
        Scores, ``[B, K]``, with ``-inf`` at the padding.
    """
    # Every row has K edges. Padding is scored as item 0, then masked.
    rows = torch.arange(items.size(0) + 1, device=items.device, dtype=torch.int32)
    row = rows[:-1].repeat_interleave(items.size(1), output_size=items.numel())
    col = items.clamp(min=0).flatten()
    before_reading(x_item, col)
    col = col.to(torch.int32)
    scores: Tensor = _EdgeScores.apply(x_user, x_item, rows * items.size(1), row, col)
    return torch.where(items < 0, -torch.inf, scores.view(items.shape))


def _score(x_user: Tensor, x_item: Tensor, row: Tensor, col: Tensor) -> Tensor:
    check_ids("edge_index[0]", row[:: max(len(row) - 1, 1)], x_user.size(0))  # sorted: two ends
    before_reading(x_user, row)
    before_reading(x_item, col)
    row, col = row.to(torch.int32), col.to(torch.int32)
    ptr = index2ptr(row, x_user.size(0))
    scores: Tensor = _EdgeScores.apply(x_user, x_item, ptr, row, col)
    return scores


class _EdgeScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_user: Tensor, x_item: Tensor, ptr: Tensor, row: Tensor, col: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x_user, x_item, ptr, row, col)
        ctx.row_tables = is_row_table(x_user), is_row_table(x_item)
        scores: Tensor = sampled_matmul(ptr, col, x_user, x_item)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_user, x_item, ptr, row, col = ctx.saved_tensors
        grad_user = grad_item = None
        if ctx.needs_input_grad[0] and ctx.row_tables[0]:
            grad_user = _row_gradient(row, col, grad.contiguous(), x_item, x_user)
        elif ctx.needs_input_grad[0]:
            grad_user = csr_matmul(ptr, col, grad.contiguous(), x_item)
        if ctx.needs_input_grad[1]:
            # The transposed pattern: a stable sort of the edges by item.
            item, order = torch.sort(col, stable=True)
            row, grad = row.index_select(0, order), grad.index_select(0, order)
            if ctx.row_tables[1]:
                grad_item = _row_gradient(item, row, grad, x_user, x_item)
            else:
                item_ptr = index2ptr(item, x_item.size(0))
                grad_item = csr_matmul(item_ptr, row, grad, x_user)
        return grad_user, grad_item, None, None, None


def _row_gradient(row: Tensor, col: Tensor, grad: Tensor, other: Tensor, table: Tensor) -> Tensor:
    """The gradient of the rows of a table that have edges, which are sorted by row."""
    rows, place = row.unique_consecutive(return_inverse=True)
    value = csr_matmul(index2ptr(place, len(rows)).to(torch.int32), col, grad, other)
    return torch.sparse_coo_tensor(
        rows.long().unsqueeze(0), value.to(table.dtype), table.shape,
        check_invariants=False, is_coalesced=True,
    )  # fmt: skip


def with_ones(x: Tensor) -> Tensor:
    """Append a column of ones, to meet a column of biases on the other side."""
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
