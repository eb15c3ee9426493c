"""What is left out of a sum over the catalogue: items seen, and items listed."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.functional.sparse import require_one_device
from pyg_kd.graph import Neighbors


# How many items are seen depends on the rows, so shapes end at the operator.
@torch.library.custom_op("pyg_kd::excluded_pairs", mutates_args=())
def excluded_pairs(ptr: Tensor, col: Tensor, rows: Tensor, lists: Tensor) -> Tensor:
    r"""Pairs of a place in ``rows`` and an item that its row has seen or lists.

    Args:
        ptr: The pattern of seen items, int64 ``[U + 1]``.
        col: Seen items, int64.
        rows: Row ids, int64 ``[B]``.
        lists: Item ids listed for each of ``rows``, ``[B, K]``, padded with -1.

    Returns:
        int64 ``[2, E]``, as :func:`~pyg_kd.functional.catalogue_logsumexp` takes it, the
        padding included.

    Example:
        >>> ptr, col = torch.tensor([0, 1, 2]), torch.tensor([7, 9])
        >>> excluded_pairs(ptr, col, torch.tensor([1]), torch.tensor([[3, -1]]))
        tensor([[ 0,  0,  0],
                [ 9,  3, -1]])
    """
    place, seen = Neighbors(ptr, col).of(rows)
    owner = torch.arange(len(rows), device=rows.device).repeat_interleave(lists.size(1))
    columns = torch.cat([place, owner]), torch.cat([seen, lists.flatten().long()])
    return torch.stack(columns)


@excluded_pairs.register_fake
def _(ptr: Tensor, col: Tensor, rows: Tensor, lists: Tensor) -> Tensor:
    require_one_device(ptr, col, rows, lists)
    # Without values their number is unknown: the largest there may be.
    return col.new_empty((2, col.numel() + lists.numel()))
