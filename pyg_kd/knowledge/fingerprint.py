"""Fingerprints: which graph and which teacher some knowledge came from."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions

#: Entries that are hashed at once.
PART = 2**15


def graph_fingerprint(data: HeteroData) -> str:
    """SHA-256 of the sizes and the set of edges of a graph; their order does not count."""
    (user, item), num_users, num_items = interactions(data)
    key = user * num_items + item
    if bool((key[1:] <= key[:-1]).any()):
        key = key.unique()
    return _digest(f"{num_users} {num_items}", [key])


def model_fingerprint(model: nn.Module) -> str:
    """SHA-256 of the class, the parameters and the persistent buffers of a model."""
    state = sorted(model.state_dict().items())
    text = f"{type(model).__name__} {[(name, list(value.shape)) for name, value in state]}"
    return _digest(text, [value for _, value in state])


def _digest(text: str, tensors: list[Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        # In parts: of a large tensor on another device, there is never a second one.
        for part in tensor.detach().flatten().split(PART):
            digest.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
