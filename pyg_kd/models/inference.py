"""Applying a model without training it, and checking what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.typing import ITEM, USER, XDict


class HasModules(Protocol):
    """A module, or what consists of modules."""

    def modules(self) -> Iterator[nn.Module]:
        """Return the module and all modules inside of it."""


@contextmanager
def inference(model: HasModules) -> Iterator[None]:
    """No gradients and evaluation mode inside; every module's own mode comes back after."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def represent(
    model: Callable[[HeteroData], XDict], data: HeteroData, *, allow_nan: bool = False
) -> XDict:
    r"""Apply a model to a graph.

    Returns:
        The representations ``[U, d]`` of users and ``[I, d]`` of items.

    Raises:
        TypeError: If the model returns no dictionary of tensors.
        ValueError: If representations are missing, of another shape, or NaN where that is not
            allowed.
    """
    x_dict = model(data)
    if not isinstance(x_dict, Mapping):
        raise TypeError(
            "'model' must return a dictionary of representations, {'user': ..., 'item': ...} "
            f"(got {type(x_dict).__name__})"
        )
    for node_type in (USER, ITEM):
        if node_type not in x_dict:
            raise ValueError(
                f"'model' returned no representations of {node_type!r} (got {sorted(x_dict)})"
            )
        x, size = x_dict[node_type], data[node_type].num_nodes
        if not isinstance(x, Tensor):
            raise TypeError(
                f"representations of {node_type!r} must be a tensor (got {type(x).__name__})"
            )
        if x.dim() != 2 or x.size(0) != size:
            raise ValueError(
                f"'model' must return {size} representations of {node_type!r}, [{size}, d] "
                f"(got {list(x.shape)})"
            )
        if not allow_nan and bool(x.isnan().any()):
            raise ValueError(f"'model' returned representations of {node_type!r} that are NaN")
    return x_dict
