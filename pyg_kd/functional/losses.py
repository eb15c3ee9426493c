"""Losses of scores: pairwise, softmax with hard and soft targets, and over the catalogue."""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid, softplus

from pyg_kd.functional.catalogue import catalogue_logsumexp
from pyg_kd.functional.list_likelihood import Reduction, reduce
from pyg_kd.functional.sparse import CSR, gather_rows, row_matmul


def bpr_loss(positive: Tensor, negative: Tensor, *, reduction: Reduction = "sum") -> Tensor:
    r"""Pairwise loss of `"BPR" <https://arxiv.org/abs/1205.2618>`_.

    .. math::
        L = - \sum \log \sigma(s_{up} - s_{un})

    Args:
        positive: Scores of the positives, ``[B]``.
        negative: Scores of the negatives, ``[B]`` or ``[B, N]``.
        reduction: ``"sum"``, ``"mean"`` over the triples, or ``"none"``.
    """
    if negative.dim() > positive.dim():
        positive = positive.unsqueeze(-1)
    return reduce(-logsigmoid(positive - negative), reduction)


def softmax_loss(positive: Tensor, negative: Tensor, *, reduction: Reduction = "sum") -> Tensor:
    r"""Softmax cross-entropy of one positive against its negatives.

    .. math::
        L = - \sum \log \frac{e^{s_{up}}}{e^{s_{up}} + \sum_n e^{s_{un}}}

    Args:
        positive: Logits of the positives, ``[B]``.
        negative: Logits of the negatives, ``[B, N]``; ``-inf`` leaves one out.
        reduction: ``"sum"``, ``"mean"`` over the rows, or ``"none"``.
    """
    # log(e^p + e^l) - p, without the copy that joining the columns would cost.
    negatives: Tensor = _LogSumExp.apply(negative)
    return reduce(softplus(negatives - positive), reduction)


class _LogSumExp(torch.autograd.Function):
    """``logsumexp(1)`` with a gradient of zero, not NaN, in rows of ``-inf`` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.logsumexp(1, keepdim=True)
        ctx.save_for_backward(x, out.masked_fill(out == -torch.inf, 0.0))
        return out.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, out = ctx.saved_tensors
        share: Tensor = (x - out).exp_()
        return share.mul_(grad.unsqueeze(1))


def soft_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    r"""Cross-entropy of the softmax of each list with a distribution over its places.

    .. math::
        L = - \sum_{k=1}^{K} q_k \log \frac{\exp(s_k)}{\sum_{j=1}^{K} \exp(s_j)}

    Args:
        scores: ``[B, K]``, with ``-inf`` at padding.
        target: :math:`q`, constant, ``[B, K]``.

    Returns:
        ``[B]``; 0 for a list of padding alone.

    Example:
        >>> scores = torch.tensor([[0.0, 0.0, -torch.inf]])
        >>> soft_cross_entropy(scores, torch.tensor([[0.5, 0.5, 0.0]]))
        tensor([0.6931])
    """
    padding = scores == -torch.inf  # NaN is not padding: let it propagate
    # A list of padding alone becomes finite, so that its gradient is zero and not NaN.
    scores = scores.masked_fill(padding.all(1, keepdim=True), 0.0)
    losses = target * (scores.logsumexp(1, keepdim=True) - scores)
    return losses.masked_fill(padding, 0.0).sum(1)


def padded_softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis; padding, ``-inf``, gets 0 even where there is nothing else."""
    return logits.softmax(-1).masked_fill(logits == -torch.inf, 0.0)


def multinomial_loss(x_row: Tensor, x_col: Tensor, rows: Tensor, observed: CSR) -> Tensor:
    r"""Negative log-likelihood of the columns observed for some rows.

    .. math::
        L = - \sum_r \sum_{c \in N_r} \log \frac{e^{\langle x_r, x_c \rangle}}
        {\sum_{c'} e^{\langle x_r, x_{c'} \rangle}}

    The scores of all :math:`c \in N_r` add up to one inner product, and the denominator is
    computed in tiles, so there is never a score for every row and column.

    Args:
        x_row: Vectors of the rows taken, ``[B, d]``.
        x_col: Vectors of all columns, ``[n, d]``.
        rows: Which rows of ``observed`` they are, int64 ``[B]``.
        observed: The columns :math:`N_r` of every row, with values of one.

    Returns:
        A scalar, the sum over the rows.

    Example:
        >>> import torch
        >>> ptr, col = torch.tensor([[0, 0, 2], [0, 1, -1]], dtype=torch.int32)
        >>> observed = CSR(ptr, col[:2], torch.ones(2))
        >>> multinomial_loss(torch.zeros(1, 3), torch.zeros(4, 3), torch.tensor([1]), observed)
        tensor(2.7726)
    """
    observed = observed._replace(value=observed.value.to(x_row.dtype))
    return catalogue_cross_entropy(x_row, x_col, rows, observed, observed.ptr.diff())


def catalogue_cross_entropy(
    x_row: Tensor,
    x_col: Tensor,
    rows: Tensor,
    target: CSR,
    mass: Tensor,
    *,
    excluded: Tensor | None = None,
    part: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy of the softmax of some rows over all columns with sparse targets.

    .. math::
        L = \sum_r \Bigl[ m_r \log \sum_{c \notin E_r} e^{\langle x_r, x_c \rangle}
        - \Bigl\langle x_r, \sum_c q_{rc} x_c \Bigr\rangle \Bigr], \qquad
        m_r = \sum_c q_{rc}

    The target enters linearly: it takes one sparse product, and no scores. The sum over the
    columns can be estimated from a part of them, drawn uniformly: what it is divided by, the
    share of that part, makes its expectation exact. The targets are never estimated.

    Args:
        x_row: Vectors of the rows taken, ``[B, d]``.
        x_col: Vectors of all columns, ``[n, d]``.
        rows: Which rows of ``target`` they are, int64 ``[B]``.
        target: :math:`q` of every row.
        mass: :math:`m` of every row.
        excluded: Pairs of a position in ``rows`` and a column, int64 ``[2, E]``, that the sum
            leaves out; -1 is padding.
        part: The distinct columns that the sum is estimated from, int64 ``[p]``; all by default.

    Returns:
        A scalar, the sum over the rows. A row with no column left has no denominator.

    Example:
        >>> ptr, col = torch.tensor([0, 1]).int(), torch.tensor([1]).int()
        >>> target, rows = CSR(ptr, col, torch.ones(1)), torch.tensor([0])
        >>> x_row, x_col = torch.zeros(1, 3), torch.zeros(4, 3)
        >>> catalogue_cross_entropy(x_row, x_col, rows, target, torch.ones(1))
        tensor(1.3863)
    """
    products = x_row * row_matmul(target, rows, x_col)
    shift = 0.0
    if part is not None:
        shift = log(len(part) / len(x_col))
        if excluded is not None:
            place = excluded.new_full((len(x_col) + 1,), -1)  # the last one is for padding
            place[part] = torch.arange(len(part), device=part.device)
            excluded = torch.stack([excluded[0], place[excluded[1]]])
        x_col = gather_rows(x_col, part)
    lse = catalogue_logsumexp(x_row, x_col, excluded=excluded) - shift
    if excluded is not None:
        lse = lse.masked_fill(lse == -torch.inf, 0.0)
    return (mass[rows] * lse).sum() - products.sum(dtype=lse.dtype)
