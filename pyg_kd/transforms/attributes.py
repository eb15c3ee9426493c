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


def of_targets(key: str) -> bool:
    """Whether an edge attribute belongs to targets: ``edge_label_index``, ``edge_label``, ..."""
    return key.startswith("edge_label")


def edge_attributes(data: HeteroData, store: EdgeStorage, edges: Tensor) -> dict[str, Any]:
    """The attributes of the edges numbered ``edges``, int64 ``[n]``; none of those of targets."""
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


def take(value: Any, index: Tensor, dim: int = 0) -> Any:
    """Select entries of a tensor along ``dim``, or of an array or a list."""
    if isinstance(value, EdgeIndex):  # what it knows of its order no longer holds
        value = value.as_tensor()
    if isinstance(value, Tensor):
        if on_numpy(value) and on_numpy(index) and value.dtype == torch.int64:
            # A third of the time that PyTorch takes on one core.
            return torch.from_numpy(value.numpy().take(index.numpy(), axis=dim))
        return value.index_select(dim, index.to(value.device))
    if isinstance(value, np.ndarray):
        return value.take(index.cpu().numpy(), axis=dim)
    boxed = np.empty(len(value), dtype=object)
    boxed[:] = value
    return boxed[index.cpu().numpy()].tolist()
