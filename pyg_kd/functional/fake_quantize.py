"""Rows rounded as a table of integers stores them, with a gradient for training."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.checks import require_choice

Integers = Literal["int8", "int4"]

INTEGERS: tuple[str, ...] = get_args(Integers)

#: The largest integer, and the steps that the largest value of a row may take: as in
#: ``pyg_kd.retrieval.scales``, which has no PyTorch, with the reasons.
LARGEST = {"int8": 127, "int4": 7}
STEPS = {"int8": (127.0,), "int4": (7.0, 7.5, 8.0)}
PARTS = 64

#: Entries of a matrix whose scales are chosen at once, to stay in the caches of a CPU.
ENTRIES = 2**16

#: Of a unit, what is added to and the least of the exponent, as float32 stores it.
HEADROOM, LEAST_UNIT = 15, 127 - 105

#: The smallest normal float16.
LEAST_SCALE = 2.0**-14


def fake_quantize(x: Tensor, dtype: Integers = "int4") -> Tensor:
    r"""The numbers that a table of integers serves for a matrix, with a gradient to train it by.

    .. math::
        \hat x_{rj} = s_r \cdot \mathrm{clip}(\mathrm{round}(x_{rj} / s_r), -L, L), \qquad
        \frac{\partial \hat x_{rj}}{\partial x_{rj}} := 1

    with :math:`L` of 127 or 7. The scale of a row is :math:`\max_j |x_{rj}| / L` for int8; int4
    chooses among a few divisors from 7 to 8 the one that loses least. Scales are float16 over
    one power of two. These are, bit for bit, the numbers of
    :meth:`Table.of(x, dtype) <pyg_kd.retrieval.Table.of>`. The gradient is the straight-through
    estimator of `"Estimating or Propagating Gradients Through Stochastic Neurons"
    <https://arxiv.org/abs/1308.3432>`_.

    Args:
        x: Floating point, ``[n, d]``; rounded as float32.
        dtype: ``"int8"`` or ``"int4"``.

    Returns:
        Of the shape and dtype of ``x``. A row with a value that is not finite becomes NaN.

    Raises:
        ValueError: If ``x`` is not a matrix with a column, or ``dtype`` is unknown.

    Example:
        >>> fake_quantize(torch.tensor([[7.0, 3.2, -0.8]]))
        tensor([[ 7.,  3., -1.]])
    """
    require_choice(INTEGERS, dtype=dtype)
    if x.dim() != 2 or x.size(1) == 0:
        raise ValueError(f"'x' must be a matrix [n, d] (got shape {list(x.shape)})")
    rounded: Tensor = _FakeQuantize.apply(x, dtype)
    return rounded


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: str) -> Tensor:
        return _rounded(x.detach().float(), dtype).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _rounded(x: Tensor, dtype: str) -> Tensor:
    if len(x) == 0:
        return x.clone()
    top = x.abs().amax(1, keepdim=True)
    scale = _scales(top, top / _steps(x, top, dtype))
    codes = x / torch.where(scale > 0, scale, 1.0)
    return codes.round_().clamp_(-LARGEST[dtype], LARGEST[dtype]).mul_(scale)


def _scales(top: Tensor, scale: Tensor) -> Tensor:
    """Scales as they are stored, ``[n, 1]``: float16 over a power of two, rounded up."""
    bits = scale.amax().view(torch.int32)
    exponent = (bits >> 23) + ((bits & 0x7FFFFF) > 0)  # of the power of two that is not less
    unit = ((exponent - HEADROOM).clamp_min(LEAST_UNIT) << 23).view(torch.float32)
    relative = scale / unit
    rounded = relative.to(torch.float16)
    up = rounded.view(torch.int16) + (rounded.float() < relative)
    stored = up.view(torch.float16).float().clamp_min(LEAST_SCALE) * unit
    return torch.where(top > 0, stored, 0.0)


def _steps(x: Tensor, top: Tensor, dtype: str) -> Tensor:
    """The steps from 0 to the largest value of every row, float32 ``[n, 1]``."""
    if len(STEPS[dtype]) == 1:
        return torch.full_like(top, STEPS[dtype][0])
    rows = max(ENTRIES // x.size(1), 1) if x.device.type == "cpu" else len(x)
    divisor = torch.where(top > 0, top, 1.0)
    parts = zip(x.split(rows), divisor.split(rows), strict=True)
    return torch.cat([_best_steps(part / by, dtype) for part, by in parts])


def _best_steps(relative: Tensor, dtype: str) -> Tensor:
    """The steps for which rows with a largest value of 1 lose least, ``[n, 1]``."""
    least = relative.new_full((len(relative), 1), torch.inf, dtype=torch.float64)
    chosen = relative.new_full((len(relative), 1), STEPS[dtype][0])  # also for NaN
    for steps in STEPS[dtype]:
        loss = _loss(relative, steps, LARGEST[dtype])
        chosen.masked_fill_(loss < least, steps)
        torch.minimum(least, loss, out=least)
    return chosen


def _loss(relative: Tensor, steps: float, largest: int) -> Tensor:
    """What rows with a largest value of 1 lose, in parts of a step squared, ``[n, 1]``."""
    wide = relative * steps
    error = wide.round().clamp_(-largest, largest).sub_(wide).mul_(PARTS).round_().square_()
    # Whole numbers, whose sum is the same in any order, as long as it holds them all.
    exact = torch.float32 if relative.size(1) * PARTS**2 < 2**24 else torch.float64
    return error.sum(1, keepdim=True, dtype=exact).double() / steps**2
