"""Lists that are scored again and again: a candidate graph with its edges in both orders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.index import index2ptr

from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.sparse import csr_matmul, gather_rows, sampled_matmul

#: A batch of less than this share of the rows sorts its own edges sooner than it passes over all.
SMALL_SHARE = 1 / 8


class CandidateLists(torch.nn.Module):
    r"""The columns listed for each row of a table.

    The same as :func:`~pyg_kd.functional.list_scores` on some of the rows. What the gradient of
    the columns needs, all edges in the order of their columns, is sorted once, not in every
    batch. A module only so that it moves between devices with whatever owns it.

    Args:
        lists: Column ids, int32 ``[R, K]``, padded with -1.
        num_cols: Number of columns.

    Example:
        >>> candidates = CandidateLists(torch.tensor([[1, -1], [0, 1]], dtype=torch.int32), 2)
        >>> candidates.scores(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.arange(2))
        tensor([[3., -inf],
                [2., 4.]])
    """

    lists: Tensor
    ptr: Tensor | None
    row: Tensor
    place: Tensor

    def __init__(self, lists: Tensor, num_cols: int) -> None:
        super().__init__()
        self.num_cols = num_cols
        self.register_buffer("lists", lists, persistent=False)
        for name in ("ptr", "row", "place"):
            self.register_buffer(name, None, persistent=False)

    def scores(self, x_row: Tensor, x_col: Tensor, rows: Tensor) -> Tensor:
        r"""Inner products of some rows with their lists.

        Args:
            x_row: ``[R, d]``.
            x_col: ``[num_cols, d]``.
            rows: Row ids, int64 ``[B]``.

        Returns:
            Scores, ``[B, K]``, with ``-inf`` at the padding.
        """
        if rows.numel() < SMALL_SHARE * self.lists.size(0):
            return list_scores(gather_rows(x_row, rows), x_col, self.lists[rows])
        if self.ptr is None:
            self._group_by_column()
        edges = (self.lists, self.ptr, self.row, self.place)
        scores: Tensor = _CandidateScores.apply(x_row, x_col, rows, *edges)
        return scores

    def _group_by_column(self) -> None:
        # Padding stands with column 0 and gets no gradient.
        col, self.place = self.lists.clamp(min=0).flatten().sort(stable=True)
        self.ptr = index2ptr(col, self.num_cols)
        self.row = self.place.div(self.lists.size(1), rounding_mode="floor").to(torch.int32)


class _CandidateScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_row: Tensor, x_col: Tensor, rows: Tensor, lists: Tensor, *by_col: Tensor
    ) -> Tensor:
        listed = lists.index_select(0, rows)
        steps = torch.arange(len(rows) + 1, device=rows.device, dtype=torch.int32)
        ptr, col = steps * lists.size(1), listed.clamp(min=0).flatten()
        scores = sampled_matmul(ptr, col, x_row.index_select(0, rows), x_col)
        ctx.save_for_backward(x_row, x_col, rows, lists, listed, ptr, col, *by_col)
        return torch.where(listed < 0, -torch.inf, scores.view(listed.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_row, x_col, rows, lists, listed, ptr, col, *by_col = ctx.saved_tensors
        grad = torch.where(listed < 0, 0.0, grad)
        grad_row = grad_col = None
        if ctx.needs_input_grad[0]:
            grad_rows = csr_matmul(ptr, col, grad.flatten(), x_col)
            grad_row = torch.zeros_like(x_row).index_add_(0, rows, grad_rows)
        if ctx.needs_input_grad[1]:
            col_ptr, row, place = by_col
            value = torch.zeros(lists.shape, dtype=grad.dtype, device=grad.device)
            value = value.index_add_(0, rows, grad).flatten().index_select(0, place)
            grad_col = csr_matmul(col_ptr, row, value, x_row)
        return grad_row, grad_col, None, None, None, None, None
