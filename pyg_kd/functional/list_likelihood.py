"""The likelihood of a ranked list against an unordered tail."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def list_likelihood_loss(listed: Tensor, tail: Tensor, *, reduction: str = "sum") -> Tensor:
    r"""Relaxed list-wise loss of `"DE-RRD" <https://arxiv.org/abs/2012.04357>`_.

    .. math::
        L = - \sum_{k=1}^{K} \log \frac{\exp(s_k)}
        {\sum_{j \geq k} \exp(s_j) + \sum_{l=1}^{L} \exp(s_l)}

    The order within ``listed`` counts, the order within ``tail`` does not.
    Everything stays in log space, so scores of any size are safe.

    Args:
        listed: Scores of the ranked items, best first, ``[..., K]``.
            ``-inf`` marks padding.
        tail: Scores of the unordered items below them, ``[..., L]``.
            ``-inf`` marks padding; ``L`` may be 0.
        reduction: ``"sum"`` (default, as in the papers), ``"mean"`` over the
            lists, or ``"none"``.

    Returns:
        A scalar, or one loss a list for ``reduction="none"``.

    Raises:
        ValueError: If the leading shapes differ, ``listed`` is empty, or
            ``reduction`` is unknown.

    Example:
        >>> list_likelihood_loss(torch.tensor([[2.0, 1.0]]), torch.tensor([[0.0]]))
        tensor(0.7209)
    """
    if listed.shape[:-1] != tail.shape[:-1]:
        raise ValueError(
            "'listed' and 'tail' must agree in all but the last dimension "
            f"(got {list(listed.shape)} and {list(tail.shape)})"
        )
    if listed.size(-1) == 0:
        raise ValueError(f"'listed' must hold at least one place (got {list(listed.shape)})")
    loss: Tensor = _ListLikelihood.apply(listed, tail)
    return reduce(loss, reduction)


def reduce(loss: Tensor, reduction: str) -> Tensor:
    """Apply ``"sum"``, ``"mean"`` or ``"none"`` to a vector of losses."""
    if reduction == "none":
        return loss
    if reduction not in ("sum", "mean"):
        raise ValueError(f"'reduction' must be 'sum', 'mean' or 'none' (got {reduction!r})")
    return loss.sum() if reduction == "sum" else loss.mean()


#: Spread of scores up to which exponentials of differences stay normal numbers in float64.
MAX_SPREAD = 600.0


@torch.library.custom_op("pyg_kd::log_cumsum_exp", mutates_args=())
def log_cumsum_exp(x: Tensor) -> Tensor:
    """``logcumsumexp`` over the last axis, by a plain cumulative sum where that is exact."""
    top = x.amax(-1, keepdim=True)
    # A row of padding alone has no maximum to subtract.
    top = torch.where(top == -torch.inf, 0.0, top)
    low = torch.where(x == -torch.inf, top, x).amin(-1, keepdim=True)
    if bool((top - low <= MAX_SPREAD).all()):
        return (x - top).double().exp_().cumsum(-1).log_().to(x.dtype).add_(top)
    return x.logcumsumexp(-1)


@log_cumsum_exp.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class _ListLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, listed: Tensor, tail: Tensor) -> Tensor:
        # The half precisions keep their dtype outside and float32 inside.
        dtype = torch.promote_types(listed.dtype, torch.float32)
        s, t = listed.to(dtype), tail.to(dtype)
        tail_lse = t.logsumexp(-1, keepdim=True)
        suffix = log_cumsum_exp(s.flip(-1)).flip(-1)
        lse = torch.logaddexp(suffix, tail_lse)
        valid = s != -torch.inf  # NaN is no padding: it has to show
        ctx.save_for_backward(listed, tail, lse)
        return torch.where(valid, lse - s, 0.0).sum(-1).to(listed.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        listed, tail, lse = ctx.saved_tensors
        s, t, g = listed.to(lse.dtype), tail.to(lse.dtype), grad.to(lse.dtype).unsqueeze(-1)
        valid = s != -torch.inf
        # An item takes part in the denominators of all places up to its own:
        # dL/ds_m = sum_{k <= m} exp(s_m - lse_k) - 1, and all K of them for the tail.
        inverse = log_cumsum_exp(torch.where(valid, -lse, -torch.inf))
        grad_listed = torch.where(valid, (s + inverse).exp() - 1, 0.0)
        grad_tail = torch.where(t != -torch.inf, (t + inverse[..., -1:]).exp(), 0.0)
        return (g * grad_listed).to(listed.dtype), (g * grad_tail).to(tail.dtype)
