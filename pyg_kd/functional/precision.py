"""Large matrix products in the precision that autocast asks for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.functional import pad

#: The number of rows of a product in half precision is a multiple of this.
ROWS = 128


def product_dtype(device_type: str, dtype: torch.dtype) -> torch.dtype:
    """Bfloat16 under autocast to it, otherwise ``dtype``; float64 is never lowered.

    Float16 would need a scaled loss, and an operator that computes its own gradients does not
    know the scale.
    """
    on = torch.is_autocast_enabled(device_type)
    low = on and torch.get_autocast_dtype(device_type) == torch.bfloat16
    return torch.bfloat16 if low and dtype != torch.float64 else dtype


def full_precision(device_type: str) -> AbstractContextManager[object]:
    """A context without autocast; does nothing on devices that have none."""
    on = torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, enabled=False) if on else nullcontext()


def pad_rows(*tensors: Tensor, low: torch.dtype) -> tuple[Tensor, ...]:
    """Append rows of zeros, where products are in half precision.

    On the CPU a kernel is compiled and cached for each shape of such a product, and every batch
    has another number of distinct entities: the kernels of an epoch would take 0.3 GB.
    """
    missing = -len(tensors[0]) % ROWS if low == torch.bfloat16 else 0
    return tuple(pad(x, (0, 0, 0, missing)) for x in tensors) if missing else tensors


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``total += left @ right``, also for a product in half precision."""
    return total.addmm_(left, right) if total.dtype == left.dtype else total.add_(left @ right)
