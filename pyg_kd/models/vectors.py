"""Embeddings from elsewhere, matched to the nodes of a graph."""

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

#: A matrix from any library that NumPy reads.
Vectors = Tensor | ArrayLike

#: Identifiers of rows: a sequence of numbers or names.
Ids = Tensor | np.ndarray | Sequence[Hashable]


def both_sides(
    data: HeteroData, x_user: Vectors, x_item: Vectors, user_ids: Ids | None, item_ids: Ids | None
) -> tuple[Tensor, Tensor]:
    """Embeddings of the users and the items of a graph, ``[U, d]`` and ``[I, d]``."""
    interactions(data)  # raises unless this is a user-item graph
    user = vectors_of(data[USER], "x_user", x_user, user_ids)
    item = vectors_of(data[ITEM], "x_item", x_item, item_ids)
    if user.size(1) != item.size(1):
        widths = f"{user.size(1)} and {item.size(1)}"
        raise ValueError(f"'x_user' and 'x_item' must have the same width (got {widths})")
    return user, item


def vectors_of(store: NodeStorage, name: str, value: Vectors, ids: Ids | None = None) -> Tensor:
    """Embeddings of the nodes of one type, floating point ``[n, d]``.

    Args:
        store: The nodes, with a ``raw_id`` if ``ids`` are given.
        name: Name of the argument, for messages.
        value: One row per node, in order, or one per entry of ``ids``.
        ids: The ``raw_id`` of each row; rows of unknown nodes are ignored.

    Raises:
        ValueError: If rows are missing or surplus, or a value is not finite.
    """
    x = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, "f4"))
    rows = int(store.num_nodes or 0) if ids is None else len(ids)
    if x.dim() != 2 or x.size(0) != rows:
        raise ValueError(f"{name!r} must be a matrix with {rows} rows (got shape {list(x.shape)})")
    finite = x.isfinite().all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise ValueError(f"{name!r} must be finite (got {x[row].tolist()} in row {row})")
    return x if ids is None else x[_places(store, name, ids, x.device)]


def _places(store: NodeStorage, name: str, ids: Ids, device: torch.device) -> Tensor:
    """For each node, its row."""
    if "raw_id" not in store:
        raise ValueError(f"the ids of {name!r} are matched with 'raw_id', which the graph lacks")
    place = {key: row for row, key in enumerate(_plain(ids))}
    if len(place) < len(ids):
        raise ValueError(
            f"the ids of {name!r} must be distinct (got {len(place)} different of {len(ids)})"
        )
    wanted = list(_plain(store.raw_id))
    missing = [key for key in wanted if key not in place]
    if missing:
        raise ValueError(
            f"{name!r} must have a row for every node (got none for {len(missing)} of "
            f"{len(wanted)}, the first is {missing[0]!r})"
        )
    return torch.tensor([place[key] for key in wanted], device=device)


def _plain(ids: Ids) -> Iterable[Hashable]:
    """Ids as plain Python values, which compare equal across libraries."""
    found: Iterable[Hashable] = ids.tolist() if isinstance(ids, (Tensor, np.ndarray)) else ids
    return found
