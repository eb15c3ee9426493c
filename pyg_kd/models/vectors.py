"""Vectors from elsewhere, in the order of a graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import NodeStorage

from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER

#: A matrix of any library that NumPy reads.
Vectors = Tensor | ArrayLike

#: Identifiers of rows: a sequence of numbers or names.
Ids = Tensor | np.ndarray | Sequence[Hashable]


def both_sides(
    data: HeteroData, x_user: Vectors, x_item: Vectors, user_ids: Ids | None, item_ids: Ids | None
) -> tuple[Tensor, Tensor]:
    """Rows for the users and for the items of a graph, ``[U, d]`` and ``[I, d]``."""
    interactions(data)  # is it a graph of users and items?
    user = vectors_of(data[USER], "x_user", x_user, user_ids)
    item = vectors_of(data[ITEM], "x_item", x_item, item_ids)
    if user.size(1) != item.size(1):
        widths = f"{user.size(1)} and {item.size(1)}"
        raise ValueError(f"'x_user' and 'x_item' must have the same width (got {widths})")
    return user, item


def vectors_of(store: NodeStorage, name: str, value: Vectors, ids: Ids | None = None) -> Tensor:
    """Rows for the nodes of a graph, floating point ``[n, d]``.

    Args:
        store: The nodes, with their ``raw_id`` where ``ids`` are given.
        name: How messages call the vectors.
        value: One row per node in their order, or one for each of ``ids``.
        ids: The ``raw_id`` of each row; ids of other nodes are allowed.

    Raises:
        ValueError: If rows are missing or too many, or a value is not finite.
    """
    x = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, "f4"))
    rows = int(store.num_nodes or 0) if ids is None else len(ids)
    if x.dim() != 2 or x.size(0) != rows:
        raise ValueError(f"{name!r} must be a matrix of {rows} rows (got {list(x.shape)})")
    finite = x.isfinite().all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise ValueError(f"{name!r} must be finite (got {x[row].tolist()} in row {row})")
    return x if ids is None else x[_places(store, name, ids, x.device)]


def _places(store: NodeStorage, name: str, ids: Ids, device: torch.device) -> Tensor:
    """The row of each node."""
    if "raw_id" not in store:
        raise ValueError(f"ids of {name!r} are matched with 'raw_id', which the graph lacks")
    place = {key: row for row, key in enumerate(_plain(ids))}
    if len(place) < len(ids):
        raise ValueError(f"the ids of {name!r} must differ ({len(place)} of {len(ids)} do)")
    wanted = list(_plain(store.raw_id))
    missing = [key for key in wanted if key not in place]
    if missing:
        raise ValueError(
            f"{name!r} must have a row for every node, {len(missing)} of {len(wanted)} are "
            f"missing, the first is {missing[0]!r}"
        )
    return torch.tensor([place[key] for key in wanted], device=device)


def _plain(ids: Ids) -> Iterable[Hashable]:
    """As Python's own numbers and names, which compare across libraries."""
    found: Iterable[Hashable] = ids.tolist() if isinstance(ids, (Tensor, np.ndarray)) else ids
    return found
