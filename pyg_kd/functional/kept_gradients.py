"""Gradients of tables that operators add up in place, in memory that lasts from step to step."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.functional.kernels import add_rows, row_ends, transposed_matmul
from pyg_kd.graph import on_numpy

_KEPT = "_pyg_kd_gradient"


def keep_gradient(x: Tensor) -> None:
    """Let operators add the gradient of a leaf to ``x.grad`` while ``backward()`` runs.

    Each then takes the time of the rows that it read, where autograd makes a table for every
    operator and adds up the tables. The memory stays with the leaf. Gradients that come through
    autograd are added to the same ``x.grad``; :func:`torch.autograd.grad` gets none of what is
    added in place. A leaf with hooks, or that NumPy can't work on, gets its gradient from autograd.
    """
    plain = x.is_leaf and x.requires_grad and x.device.type == "cpu"
    if plain and x.dtype in (torch.float32, torch.float64) and not hasattr(x, _KEPT):
        buffer = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        if on_numpy(buffer):
            setattr(x, _KEPT, buffer)


def end_kept_gradient(x: Tensor) -> None:
    """Forget the memory; autograd alone makes gradients again."""
    if hasattr(x, _KEPT):
        delattr(x, _KEPT)


def kept_gradient(x: Tensor) -> Tensor | None:
    """``x.grad``, to be added to in place, zero at first; ``None`` where that isn't allowed."""
    buffer: Tensor | None = getattr(x, _KEPT, None)
    if buffer is None or _hooked(x):
        return None
    if x.grad is buffer:
        return buffer
    if x.grad is None:
        x.grad = buffer.zero_()
        return buffer
    # Autograd has put its own there before.
    usable = on_numpy(x.grad) and not x.grad.is_sparse and not x.grad.requires_grad
    return x.grad if usable and x.grad.is_contiguous() else None


def _hooked(x: Tensor) -> bool:
    """Whether somebody asked to see the gradient on its way."""
    return bool(x._backward_hooks or getattr(x, "_post_accumulate_grad_hooks", None))


def gradient_of_rows(table: Tensor, ids: Tensor, value: Tensor, x: Tensor) -> Tensor | None:
    r"""The gradient of a table whose rows were read: :math:`\sum_{r,c} v_{rc} x_r` by id.

    Args:
        table: What it is the gradient of, ``[n, d]``.
        ids: Which rows of it were read, integers that were checked, ``[R, w]``.
        value: :math:`v`, ``[R, w]``.
        x: ``[R, d]``.

    Returns:
        ``[n, d]``, in the dtype of the table; ``None`` after adding it in place.
    """
    grad = kept_gradient(table)
    if grad is not None:
        add_rows(grad, ids, value, x)
        return None
    edges = row_ends(ids), ids.flatten().to(torch.int32), value.flatten()
    made: Tensor = transposed_matmul(*edges, x, len(table))
    return made.to(table.dtype)


def gradient_of_distinct_rows(table: Tensor, ids: Tensor, rows: Tensor) -> Tensor | None:
    """The gradient of a table of which each row was read once at most.

    Args:
        table: What it is the gradient of, ``[n, d]``.
        ids: Which rows of it were read, distinct integers that were checked, ``[R]``.
        rows: Their gradients, ``[R, d]``.

    Returns:
        ``[n, d]``, in the dtype of the table; ``None`` after adding it in place.
    """
    grad = kept_gradient(table)
    if grad is not None:
        add_rows(grad, ids.unsqueeze(1), rows.new_ones(len(ids), 1), rows)
        return None
    return torch.zeros_like(table).index_copy_(0, ids, rows.to(table.dtype))
