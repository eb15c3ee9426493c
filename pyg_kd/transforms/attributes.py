"""Attributes of some edges or nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage

from pyg_kd.graph import on_numpy

#: What NumPy takes faster than PyTorch.
INTEGERS = (torch.bool, torch.int32, torch.int64)

#: Entries that are taken by a mask at a time, so that their numbers stay in a core's caches.
BLOCK = 1 << 18


def of_targets(key: str) -> bool:
    """Whether an edge attribute belongs to targets: ``edge_label_index``, ``edge_label``, ..."""
    return key.startswith("edge_label")


def edge_attributes(data: HeteroData, store: EdgeStorage, edges: Tensor) -> dict[str, Any]:
    """The attributes of some edges, as :func:`take` reads them; none of those of targets."""
    return {
        key: take(value, edges, data.__cat_dim__(key, value, store))
        for key, value in store.items()
        if not of_targets(key) and store.is_edge_attr(key)
    }


def numbers(mask: Tensor) -> Tensor:
    """Where a mask is true, int64 ``[n]``, ascending."""
    if on_numpy(mask):  # a fifth of the time that PyTorch takes on one core
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().view(-1)


def take(value: Any, chosen: Tensor, dim: int = 0) -> Any:
    """Select entries of a tensor along ``dim``, or of an array or a list.

    Args:
        value: What to select from, of ``n`` entries.
        chosen: Their numbers, int64, in any order; or a mask, bool ``[n]``.
        dim: The dimension of a tensor.
    """
    if isinstance(value, EdgeIndex):  # what it knows of its order no longer holds
        value = value.as_tensor()
    plain = isinstance(value, Tensor) and on_numpy(value) and value.dtype in INTEGERS
    if chosen.dtype == torch.bool:
        if plain and on_numpy(chosen) and dim % value.dim() == value.dim() - 1:
            return _masked(value, chosen)
        chosen = numbers(chosen)
    if isinstance(value, Tensor):
        if plain and on_numpy(chosen):
            # A third of the time that PyTorch takes on one core.
            return torch.from_numpy(value.numpy().take(chosen.numpy(), axis=dim))
        return value.index_select(dim, chosen.to(value.device))
    if isinstance(value, np.ndarray):
        return value.take(chosen.cpu().numpy(), axis=dim)
    boxed = np.empty(len(value), dtype=object)
    boxed[:] = value
    return boxed[chosen.cpu().numpy()].tolist()


def _masked(x: Tensor, mask: Tensor) -> Tensor:
    """``x[..., mask]``, where the numbers of all entries together would be as large as a row."""
    kept = mask.numpy()
    # PyTorch's memory: NumPy asks for huge pages, and to make those may take longer than to fill
    # them once.
    out = x.new_empty((*x.shape[:-1], int(np.count_nonzero(kept))))
    end = 0
    for start in range(0, len(kept), BLOCK):
        index = np.flatnonzero(kept[start : start + BLOCK])
        begin, end = end, end + len(index)
        for row in np.ndindex(x.shape[:-1]):
            block, place = x[row].numpy()[start : start + BLOCK], out[row].numpy()[begin:end]
            # "clip", as "raise" would copy the place first.
            np.take(block, index, out=place, mode="clip")
    return out
