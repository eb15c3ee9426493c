"""Large matrix products in the precision that autocast asks for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.functional import pad

#: Rows of products in half precision are a multiple of this.
ROWS = 128


def product_dtype(device_type: str, dtype: torch.dtype) -> torch.dtype:
    """Bfloat16 under autocast to it, else ``dtype``; float64 stays what it is, as everywhere.

    Float16 would need a scale of the loss, of which an operator that makes its gradients
    itself knows nothing.
    """
    on = torch.is_autocast_enabled(device_type)
    low = on and torch.get_autocast_dtype(device_type) == torch.bfloat16
    return torch.bfloat16 if low and dtype != torch.float64 else dtype


def full_precision(device_type: str) -> AbstractContextManager[object]:
    """No autocast inside; nothing to be done on devices that know of none."""
    on = torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, enabled=False) if on else nullcontext()


def pad_rows(*tensors: Tensor, low: torch.dtype) -> tuple[Tensor, ...]:
    """Rows of zeros at the end, where products are in half precision.

    On the CPU a kernel is compiled and kept for each shape of such a product, and the number of
    distinct entities is another in every batch: an epoch would take 0.3 GB for its kernels.
    """
    missing = -len(tensors[0]) % ROWS if low == torch.bfloat16 else 0
    return tuple(pad(x, (0, 0, 0, missing)) for x in tensors) if missing else tensors


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``total += left @ right``, a product in half precision included."""
    return total.addmm_(left, right) if total.dtype == left.dtype else total.add_(left @ right)
