"""Rows at random places of a large table, read and written in the time that memory takes.

Each row costs a miss of the caches, whatever is done with it. On a CPU, NumPy moves rows as
records, in half of the time of PyTorch's indexing, and asks the system for large pages, which saves
another third.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_kd.graph import on_numpy


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table, ``[n, d]``, at ids, int64 ``[R]``: a new tensor, ``[R, d]``."""
    if not _is_records(x):
        return x.index_select(0, rows)
    taken = _records(x).take(rows.numpy())
    return torch.from_numpy(taken.view(x.numpy().dtype)).view(len(rows), x.size(1))


def put_rows(x: Tensor, rows: Tensor, values: Tensor) -> None:
    """Write distinct rows of a table, in place."""
    if _is_records(x):
        _records(x)[rows.numpy()] = _records(values.contiguous())
    else:
        x.index_copy_(0, rows, values)


def in_large_pages(x: Tensor) -> Tensor:
    """A copy that the system may keep in large pages, or ``x`` itself."""
    if not _is_records(x):
        return x
    return torch.from_numpy(np.empty(x.shape, dtype=x.numpy().dtype)).copy_(x)


def _is_records(x: Tensor) -> bool:
    known = x.dtype in (torch.float32, torch.float64)
    return on_numpy(x) and known and x.is_contiguous() and x.numel() > 0


def _records(x: Tensor) -> NDArray[np.void]:
    return x.numpy().view(f"V{x.size(1) * x.element_size()}")[:, 0]
