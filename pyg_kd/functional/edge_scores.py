"""Scores on candidate edges: inner products of users with listed items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.index import index2ptr

from pyg_kd.functional.kernels import csr_matmul, row_ends, sampled_matmul, transposed_matmul
from pyg_kd.functional.row_tables import read_lists, read_rows
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
    # Every row has K edges. Padding is scored as any item, then masked.
    x_item, col = read_lists(x_item, items.flatten())
    col = col.to(torch.int32)
    scores: Tensor = _EdgeScores.apply(x_user, x_item, row_ends(items), col)
    return torch.where(items < 0, -torch.inf, scores.view(items.shape))


def _score(x_user: Tensor, x_item: Tensor, row: Tensor, col: Tensor) -> Tensor:
    check_ids("edge_index[0]", row[:: max(len(row) - 1, 1)], x_user.size(0))  # sorted: two ends
    x_user, row = read_rows(x_user, row)  # ascending ids have ascending places
    x_item, col = read_rows(x_item, col)
    row, col = row.to(torch.int32), col.to(torch.int32)
    ptr = index2ptr(row, x_user.size(0))
    scores: Tensor = _EdgeScores.apply(x_user, x_item, ptr, col)
    return scores


class _EdgeScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_user: Tensor, x_item: Tensor, ptr: Tensor, col: Tensor) -> Tensor:
        ctx.save_for_backward(x_user, x_item, ptr, col)
        scores: Tensor = sampled_matmul(ptr, col, x_user, x_item)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_user, x_item, ptr, col = ctx.saved_tensors
        grad_user = grad_item = None
        if ctx.needs_input_grad[0]:
            grad_user = csr_matmul(ptr, col, grad.contiguous(), x_item)
        if ctx.needs_input_grad[1]:
            edges = ptr, col, grad.contiguous()
            grad_item = transposed_matmul(*edges, x_user, x_item.size(0))
        return grad_user, grad_item, None, None


def with_ones(x: Tensor) -> Tensor:
    """Append a column of ones, to meet a column of biases on the other side."""
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
