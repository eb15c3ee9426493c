"""The pairwise loss of triples, from the tables to the gradients of their rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyg_kd.functional.kept_gradients import gradient_of_rows
from pyg_kd.functional.kernels import scatter_rows
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
            grad_user = _user_gradient(x_user, user, slope, apart)
        if ctx.needs_input_grad[1]:
            grad_item = _item_gradient(x_item, candidates, slope, x.squeeze(1))
        return grad_user, grad_item, None, None


def _user_gradient(x_user: Tensor, user: Tensor, slope: Tensor, apart: Tensor) -> Tensor | None:
    """How far negatives are from the positive, added to their user: ``[U, d]``."""
    if x_user.device.type != "cpu":
        rows = (slope.unsqueeze(-1) * apart).sum(1)
        return scatter_rows(rows, user, len(x_user)).to(x_user.dtype)
    each = user.unsqueeze(1).expand_as(slope).reshape(-1, 1)
    return gradient_of_rows(x_user, each, slope.view(-1, 1), apart.flatten(0, 1))


def _item_gradient(x_item: Tensor, candidates: Tensor, slope: Tensor, x: Tensor) -> Tensor | None:
    """Each user's row added to its negatives, and taken from its positive: ``[I, d]``."""
    value = torch.cat([-slope.sum(1, keepdim=True), slope], 1)
    return gradient_of_rows(x_item, candidates, value, x)
