"""What a model returns for a graph, checked before anything is built on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.typing import ITEM, USER, XDict


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
