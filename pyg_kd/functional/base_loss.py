"""The losses a recommender trains with before any distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid, softplus

from pyg_kd.functional.list_likelihood import reduce


def bpr_loss(positive: Tensor, negative: Tensor, *, reduction: str = "sum") -> Tensor:
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


def softmax_loss(positive: Tensor, negative: Tensor, *, reduction: str = "sum") -> Tensor:
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
    """``logsumexp(1)`` whose gradient is zero, not NaN, in a row of nothing but ``-inf``."""

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
