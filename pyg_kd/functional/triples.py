"""The pairwise loss of triples, from the tables to the gradients of their rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyg_kd.functional.kernels import scatter_rows, transposed_matmul
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


def _margins(
    x_user: Tensor, x_item: Tensor, user: Tensor, candidates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the users, ``[B, 1, d]``, differences of items, ``[B, N, d]``, and their products."""
    # Half precision is float32 inside.
    dtype = torch.promote_types(x_user.dtype, torch.float32)
    x = x_user.index_select(0, user).to(dtype).unsqueeze(1)
    rows = (
        x_item.index_select(0, candidates.flatten())
        .view(*candidates.shape, x_item.size(1))
        .to(dtype)
    )
    apart = rows[:, :1] - rows[:, 1:]
    return x, apart, (x * apart).sum(-1)


class _TripleLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_user: Tensor, x_item: Tensor, user: Tensor, candidates: Tensor
    ) -> Tensor:
        x, apart, margin = _margins(x_user, x_item, user, candidates)
        ctx.save_for_backward(x_user, x_item, user, candidates)
        ctx.rows = x, apart, margin
        return logsigmoid(margin).sum().neg_().to(x_user.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_user, x_item, user, candidates = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient is wanted of the gradient
            margin = _margins(x_user, x_item, user, candidates)[2]
            loss = -logsigmoid(margin).sum().to(x_user.dtype)
            wanted = ctx.needs_input_grad[:2]
            tables = [x for x, want in zip((x_user, x_item), wanted, strict=True) if want]
            found = iter(torch.autograd.grad(loss, tables, grad, create_graph=True))
            return *(next(found) if want else None for want in wanted), None, None
        x, apart, margin = ctx.rows
        slope = torch.sigmoid(-margin).mul_(-grad)
        grad_user = grad_item = None
        if ctx.needs_input_grad[0]:
            rows = (slope.unsqueeze(-1) * apart).sum(1)
            grad_user = scatter_rows(rows, user, len(x_user)).to(x_user.dtype)
        if ctx.needs_input_grad[1]:
            value = torch.cat([slope.sum(1, keepdim=True), slope.neg()], 1)
            ptr = torch.arange(
                0, value.numel() + 1, value.size(1), device=value.device, dtype=torch.int32
            )
            edges = ptr, candidates.flatten().to(torch.int32), value.flatten()
            grad_item = transposed_matmul(*edges, x.squeeze(1), len(x_item)).to(x_item.dtype)
        return grad_user, grad_item, None, None
