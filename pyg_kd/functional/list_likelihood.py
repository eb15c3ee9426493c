"""The likelihood of a ranked list against an unordered tail."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Reduction = Literal["sum", "mean", "none"]


def list_likelihood_loss(
    listed: Tensor, tail: Tensor, *, weight: Tensor | None = None, reduction: Reduction = "sum"
) -> Tensor:
    r"""Relaxed list-wise loss of `"DE-RRD" <https://arxiv.org/abs/2012.04357>`_.

    .. math::
        L = - \sum_{k=1}^{K} c_k \log \frac{\exp(s_k)}
        {\sum_{j \geq k} \exp(s_j) + \sum_{l=1}^{L} \exp(s_l)}

    The order within ``listed`` counts, the order within ``tail`` does not.
    Scores of any size are safe.

    Args:
        listed: Scores of the ranked items, best first, ``[..., K]``.
            ``-inf`` marks padding.
        tail: Scores of the unordered items below them, ``[..., L]``.
            ``-inf`` marks padding; ``L`` may be 0.
        weight: :math:`c`, constant, ``[..., K]``; 1 by default.
        reduction: ``"sum"`` (default, as in the papers), ``"mean"`` over the
            lists, or ``"none"``.

    Returns:
        A scalar, or one loss per list for ``reduction="none"``.

    Raises:
        ValueError: If the leading shapes differ, ``weight`` has not the shape of ``listed``,
            ``listed`` is empty, or ``reduction`` is unknown.

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
    if weight is not None and weight.shape != listed.shape:
        raise ValueError(
            "'weight' must have the shape of 'listed' "
            f"(got {list(weight.shape)} and {list(listed.shape)})"
        )
    loss: Tensor = _ListLikelihood.apply(listed, tail, weight)
    return reduce(loss, reduction)


def reduce(loss: Tensor, reduction: Reduction) -> Tensor:
    """Apply ``"sum"``, ``"mean"`` or ``"none"`` to a vector of losses."""
    if reduction == "none":
        return loss
    if reduction not in ("sum", "mean"):
        raise ValueError(f"'reduction' must be 'sum', 'mean' or 'none' (got {reduction!r})")
    return loss.sum() if reduction == "sum" else loss.mean()


#: Denominators, relative to the largest term of a list, down to which plain sums of exponentials
#: are exact: terms that underflow are far too small to count, and inverses stay finite.
SMALLEST = {torch.float32: 1e-26, torch.float64: 1e-200}


def _top(s: Tensor, t: Tensor) -> Tensor:
    """The largest score of every list, ``[..., 1]``; 0 for a list of padding alone."""
    top = s.amax(-1, keepdim=True)
    if t.size(-1):
        top = torch.maximum(top, t.amax(-1, keepdim=True))
    return torch.where(top == -torch.inf, 0.0, top)


def _padded(s: Tensor) -> bool:
    """Whether any place is padding. NaN is not padding: let it propagate."""
    return s.numel() > 0 and bool(s.min() == -torch.inf)


def _at_least(smallest: float, below: Tensor, s: Tensor) -> bool:
    """Whether the denominators ``below`` reach ``smallest`` wherever ``s`` is not padding."""
    if below.numel() == 0 or bool(below.min() >= smallest):
        return True
    return bool(((below >= smallest) | (s == -torch.inf)).all())


def _log_denominators(s: Tensor, t: Tensor) -> Tensor:
    top = _top(s, t)
    below = (s - top).exp_().flip(-1).cumsum(-1).flip(-1)
    below += (t - top).exp_().sum(-1, keepdim=True)
    if _at_least(SMALLEST[s.dtype], below, s):
        return below.log_().add_(top)
    if s.dtype != torch.float64:
        return _log_denominators(s.double(), t.double()).to(s.dtype)
    return torch.logaddexp(s.flip(-1).logcumsumexp(-1).flip(-1), t.logsumexp(-1, keepdim=True))


# How to sum depends on values: opaque custom ops.
@torch.library.custom_op("pyg_kd::list_losses", mutates_args=())
def list_losses(s: Tensor, t: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The loss of every list, ``[...]``, and the logarithms of its denominators, ``[..., K]``."""
    lse = _log_denominators(s, t)
    places = lse - s
    if _padded(s):
        places = torch.where(s == -torch.inf, 0.0, places)
    if weight is not None:
        places = places * weight
    return places.sum(-1), lse


@list_losses.register_fake
def _(s: Tensor, t: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return s.new_empty(s.shape[:-1]), torch.empty_like(s)


@torch.library.custom_op("pyg_kd::list_gradients", mutates_args=())
def list_gradients(
    s: Tensor, t: Tensor, lse: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gradients of the losses with respect to the scores, ``[..., K]`` and ``[..., L]``."""
    # An item is in the denominators of all places up to its own:
    # dL/ds_m = sum_{k <= m} c_k exp(s_m - lse_k) - c_m. The tail is in all K of them.
    own: Tensor | float = 1 if weight is None else weight
    total = lse[..., :1]
    total = torch.where(total == -torch.inf, 0.0, total)
    below, padded = (lse - total).exp_(), _padded(s)
    if _at_least(SMALLEST[s.dtype], below, s):
        inverse = below.reciprocal_()
        if padded:
            inverse = torch.where(s == -torch.inf, 0.0, inverse)
        if weight is not None:
            inverse = inverse * weight
        inverse = inverse.cumsum(-1)
        grad_s = (s - total).exp_().mul_(inverse).sub_(own)
        grad_t = (t - total).exp_().mul_(inverse[..., -1:])
    elif s.dtype != torch.float64:
        wide = None if weight is None else weight.double()
        grad_s, grad_t = list_gradients(s.double(), t.double(), lse.double(), wide)
        return grad_s.to(s.dtype), grad_t.to(s.dtype)
    else:
        inverse = torch.where(s == -torch.inf, -torch.inf, -lse)
        if weight is not None:
            inverse = inverse + weight.log()
        inverse = inverse.logcumsumexp(-1)
        grad_s = (s + inverse).exp_().sub_(own)
        grad_t = torch.where(t == -torch.inf, 0.0, (t + inverse[..., -1:]).exp_())
    return torch.where(s == -torch.inf, 0.0, grad_s) if padded else grad_s, grad_t


@list_gradients.register_fake
def _(s: Tensor, t: Tensor, lse: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(s), torch.empty_like(t)


class _ListLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, listed: Tensor, tail: Tensor, weight: Tensor | None) -> Tensor:
        # Half precision is float32 inside.
        dtype = torch.promote_types(listed.dtype, torch.float32)
        weight = None if weight is None else weight.to(dtype)
        loss, lse = list_losses(listed.to(dtype), tail.to(dtype), weight)
        ctx.save_for_backward(listed, tail, lse, weight)
        out: Tensor = loss.to(listed.dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        listed, tail, lse, weight = ctx.saved_tensors
        g, dtype = grad.to(lse.dtype).unsqueeze(-1), lse.dtype
        grad_listed, grad_tail = list_gradients(listed.to(dtype), tail.to(dtype), lse, weight)
        return (g * grad_listed).to(listed.dtype), (g * grad_tail).to(tail.dtype), None
