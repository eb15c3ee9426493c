"""Layers that several models use: a fast dropout and clipping to the unit ball."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.checks import require_number


def dropout(x: Tensor, p: float) -> Tensor:
    r"""Zero entries with probability ``p`` and scale the others by ``1 / (1 - p)``.

    Four entries share the bits of one random number, so ``p`` is rounded to a multiple of
    ``2**-16``. On a CPU, a random number per entry would take six times as long.

    Args:
        x: Floating point, of any shape.
        p: Probability, in [0, 1).

    Example:
        >>> dropout(torch.ones(3), 0.0)
        tensor([1., 1., 1.])
    """
    steps = min(round(p * 2**16), 2**16 - 1)
    if steps == 0:
        return x
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    # The whole range of the type, since the sign bit is used too.
    bits.random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= steps - 2**15
    return x * kept.to(x.dtype).mul_(2**16 / (2**16 - steps))


def require_dropout(dropout: float) -> None:
    """Raise unless ``dropout`` is a probability in [0, 1)."""
    require_number(dropout=dropout)
    if not 0 <= dropout < 1:
        raise ValueError(f"'dropout' must lie in [0, 1) (got {dropout})")


def unit_ball(x: Tensor) -> Tensor:
    r"""Clip rows outside the unit ball to its surface: :math:`x / \max(1, \|x\|)`.

    Args:
        x: Floating point, ``[N, d]``.

    Example:
        >>> unit_ball(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    clipped: Tensor = _Clip.apply(x)
    return clipped


class _Clip(torch.autograd.Function):
    """``x / max(1, |x|)`` by rows, with a backward pass eight times as fast as autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_(min=1)
        clipped: Tensor = x / norm
        ctx.save_for_backward(clipped, norm)
        return clipped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, norm = ctx.saved_tensors
        # Moving a clipped row outwards changes nothing.
        buffer = x * grad
        outwards = torch.where(norm > 1, buffer.sum(1, keepdim=True), 0.0)
        return torch.addcmul(grad, x, outwards, value=-1, out=buffer).div_(norm)
