"""The pairwise loss of triples, from the tables to the gradients of their rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyg_kd.functional.kernels import MANY_ROWS, scatter_rows, transposed_matmul
from pyg_kd.functional.row_tables import read_rows


def triple_loss(x_user: Tensor, x_item: Tensor, user: Tensor, candidates: Tensor) -> Tensor:
    r"""Pairwise loss of `"BPR" <https://arxiv.org/abs/1205.2618>`_ of the rows of two tables.

    .. math::
        L = - \sum_b \sum_n \log \sigma(\langle x_{u_b}, x_{p_b} - x_{bn} \rangle)

    As :func:`~pyg_kd.functional.bpr_loss` of gathered rows, with one operation for what a step
    does: rows are read once, and their gradients go to the tables without passing through scores.

    Args:
        x_user: ``[U, d]``.
        x_item: ``[I, d]``.
        user: User ids, int64 ``[B]``.
        candidates: The positive of each user and then its negatives, int64 ``[B, 1 + N]``.

    Returns:
        A scalar, the sum over the triples.

    Example:
        >>> x_user, x_item = torch.ones(1, 2), torch.tensor([[1.0, 0.0], [0.0, 0.5]])
        >>> triple_loss(x_user, x_item, torch.tensor([0]), torch.tensor([[0, 1]]))
        tensor(0.4741)
    """
    x_user, user = read_rows(x_user, user)
    x_item, candidates = read_rows(x_item, candidates)
    loss: Tensor = _TripleLoss.apply(x_user, x_item, user, candidates)
    return loss


def _apart(
    x_user: Tensor, x_item: Tensor, user: Tensor, candidates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the users, ``[B, 1, d]``, how far negatives are from the positive, ``[B, N, d]``,
    and the products of the two, ``[B, N]``.
    """
    x = x_user.index_select(0, user).unsqueeze(1)
    rows = x_item.index_select(0, candidates.flatten()).view(*candidates.shape, x_item.size(1))
    if x.dtype in (torch.bfloat16, torch.half):  # float32 inside
        x, rows = x.float(), rows.float()
    apart = rows[:, 1:] - rows[:, :1]
    return x, apart, (x * apart).sum(-1)


def _loss(excess: Tensor) -> Tensor:
    # Above 40, exp(-x) is below the rounding of float64.
    return softplus(excess, threshold=40.0).sum()


class _TripleLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_user: Tensor, x_item: Tensor, user: Tensor, candidates: Tensor
    ) -> Tensor:
        x, apart, excess = _apart(x_user, x_item, user, candidates)
        ctx.save_for_backward(x_user, x_item, user, candidates)
        ctx.rows = x, apart, excess
        return _loss(excess).to(x_user.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_user, x_item, user, candidates = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient is wanted of the gradient
            loss = _loss(_apart(x_user, x_item, user, candidates)[2]).to(x_user.dtype)
            wanted = ctx.needs_input_grad[:2]
            tables = [x for x, want in zip((x_user, x_item), wanted, strict=True) if want]
            found = iter(torch.autograd.grad(loss, tables, grad, create_graph=True))
            return *(next(found) if want else None for want in wanted), None, None
        x, apart, excess = ctx.rows
        slope = excess.sigmoid().mul_(grad)
        grad_user = grad_item = None
        if ctx.needs_input_grad[0]:
            rows = (slope.unsqueeze(-1) * apart).sum(1)
            grad_user = scatter_rows(rows, user, len(x_user)).to(x_user.dtype)
        if ctx.needs_input_grad[1]:
            grad_item = _item_gradient(slope, candidates, x, len(x_item)).to(x_item.dtype)
        return grad_user, grad_item, None, None


def _item_gradient(slope: Tensor, candidates: Tensor, x: Tensor, num_items: int) -> Tensor:
    """Each user's row added to its negatives, and taken from its positive: ``[I, d]``."""
    if x.device.type == "cpu" and slope.size(1) == 1 and len(slope) < MANY_ROWS:
        rows, (positive, negative) = slope * x.squeeze(1), candidates.unbind(1)
        out = rows.new_zeros(num_items, rows.size(1))
        return out.index_add_(0, negative, rows).index_add_(0, positive, rows, alpha=-1)
    value = torch.cat([-slope.sum(1, keepdim=True), slope], 1)
    ends = torch.arange(0, value.numel() + 1, value.size(1), device=value.device, dtype=torch.int32)
    edges = ends, candidates.flatten().to(torch.int32), value.flatten()
    found: Tensor = transposed_matmul(*edges, x.squeeze(1), num_items)
    return found
