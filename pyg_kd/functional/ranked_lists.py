"""The list likelihood of whole lists: from tables and ids to the gradients of the tables."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.functional.kept_gradients import gradient_of_distinct_rows, gradient_of_rows
from pyg_kd.functional.kernels import (
    csr_matmul,
    keep_float32,
    require_one_device,
    row_ends,
    sampled_matmul,
)
from pyg_kd.functional.list_likelihood import list_gradients, list_losses
from pyg_kd.functional.operators import operator, shapes_of
from pyg_kd.functional.row_tables import read_lists, read_rows

#: Scores to the base of 2 whose powers, sums of these and inverses are far from the ends of
#: float32.
LOWEST, HIGHEST = -72.0, 100.0
LN2 = math.log(2.0)


def ranked_lists_loss(
    x_row: Tensor,
    x_col: Tensor,
    rows: Tensor,
    lists: Tensor,
    num_listed: int,
    *,
    weight: Tensor | None = None,
    scale: float = 1.0,
    padded: bool = True,
) -> Tensor:
    r"""The sum of :func:`~pyg_kd.functional.list_likelihood_loss` over the lists of some rows.

    Equals scoring each row's own list and taking the loss of the scores, with one operation for
    what a step does: the gradients of the scores come with the loss, from the same exponentials.

    Args:
        x_row: ``[R, d]``.
        x_col: ``[C, d]``.
        rows: Whose lists they are, ascending and distinct, int64 ``[B]``.
        lists: Columns listed for each of these rows, integers ``[B, n]``, padded with -1.
        num_listed: How many of them are ranked, best first: :math:`K`. The others are the tail.
        weight: :math:`c`, constant, ``[B, K]``; 1 by default.
        scale: Factor on the scores.
        padded: Whether there may be padding; ``False`` is taken at its word.

    Returns:
        A scalar.

    Example:
        >>> x_row, x_col = torch.ones(1, 1), torch.tensor([[2.0], [1.0], [0.0]])
        >>> ranked_lists_loss(x_row, x_col, torch.tensor([0]), torch.tensor([[0, 1, 2]]), 2)
        tensor(0.7209)
    """
    padding = lists < 0 if padded else None
    x_row, rows = read_rows(x_row, rows)  # ascending ids have ascending places
    # Padding is scored as any column, then masked.
    x_col, lists = (read_rows if padding is None else read_lists)(x_col, lists)
    options = (weight, num_listed, scale)
    loss: Tensor = _RankedLists.apply(x_row, x_col, rows, lists, padding, *options)
    return loss


class _RankedLists(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_row: Tensor,
        x_col: Tensor,
        rows: Tensor,
        lists: Tensor,
        padding: Tensor | None,
        weight: Tensor | None,
        num_listed: int,
        scale: float,
    ) -> Tensor:
        x, lists = x_row.index_select(0, rows), lists.to(torch.int32)
        loss, slope = ranked_lists_forward(x, x_col, lists, padding, weight, num_listed, scale)
        ctx.save_for_backward(x_row, x_col, rows, lists, x, slope)
        ctx.scale = scale
        out: Tensor = loss.to(x_row.dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_row, x_col, rows, lists, x, slope = ctx.saved_tensors
        factor, grad_row, grad_col = grad * ctx.scale, None, None
        if ctx.needs_input_grad[0]:
            each = csr_matmul(row_ends(lists), lists.flatten(), slope.flatten(), x_col)
            grad_row = gradient_of_distinct_rows(x_row, rows, each.mul_(factor))
        if ctx.needs_input_grad[1]:
            grad_col = gradient_of_rows(x_col, lists, slope, x * factor)
        return grad_row, grad_col, *[None] * 6


# How to sum depends on values.
@operator("pyg_kd::ranked_lists_forward")
def ranked_lists_forward(
    x: Tensor,
    x_col: Tensor,
    lists: Tensor,
    padding: Tensor | None,
    weight: Tensor | None,
    num_listed: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The sum of the losses of all lists, and its gradient by their scaled scores, ``[B, n]``."""
    dtype = torch.promote_types(x.dtype, torch.float32)  # half precision is float32 inside
    weight = None if weight is None else weight.to(dtype)
    if x_col.device.type == "cpu" and lists.numel() > len(x_col):
        # Rows in no order wait for memory, one after the other, unless a cache has them: the time
        # of the scores halves where a step has just written the table.
        x_col.sum()
    # Logarithms to the base of 2 have exponentials that take a third of the time.
    x = x.to(dtype) * (scale / LN2)
    edges = row_ends(lists), lists.flatten()
    scores = sampled_matmul(*edges, x, x_col.to(dtype)).view(lists.shape)
    if padding is None and scores.numel():
        least, most = scores.aminmax()
        if bool((least > LOWEST) & (most < HIGHEST)):
            return _moderate_losses(scores, weight, num_listed), scores
    scores *= LN2
    if padding is not None:
        scores.masked_fill_(padding, -torch.inf)
    listed, tail = scores[:, :num_listed], scores[:, num_listed:]
    losses, lse = list_losses(listed, tail, weight)
    return losses.sum(), torch.cat(list_gradients(listed, tail, lse, weight), 1)


@shapes_of("pyg_kd::ranked_lists_forward")
def _(
    x: Tensor,
    x_col: Tensor,
    lists: Tensor,
    padding: Tensor | None,
    weight: Tensor | None,
    num_listed: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    require_one_device(x, x_col, lists)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty((), dtype=dtype), lists.new_empty(lists.shape, dtype=dtype)


keep_float32("pyg_kd::ranked_lists_forward")


def _moderate_losses(scores: Tensor, weight: Tensor | None, num_listed: int) -> Tensor:
    """The sum of the losses; ``scores``, to the base of 2, become their gradients, in place."""
    listed, tail = scores[:, :num_listed], scores[:, num_listed:]
    own = listed.clone()
    scores.exp2_()
    below = listed.flip(1).cumsum_(1).flip(1).add_(tail.sum(1, keepdim=True))
    losses = own.neg_().add_(below.log2())
    # An item is in the denominators of all places up to its own, the tail in all of them.
    share = below.reciprocal_()
    if weight is not None:
        losses.mul_(weight)
        share.mul_(weight)
    share.cumsum_(1)
    tail.mul_(share[:, -1:])
    listed.mul_(share).sub_(1 if weight is None else weight)
    return losses.sum() * LN2
