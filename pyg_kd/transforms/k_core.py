"""The dense core of a graph."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kd.graph import interactions
from pyg_kd.transforms.selection import select_
from pyg_kd.typing import ITEM, USER


class KCore(BaseTransform):
    r"""Keeps the largest subgraph in which all users and items have enough interactions.

    Users with fewer than ``k_user`` and items with fewer than ``k_item`` interactions are
    removed, repeatedly, until there are none. The rest are renumbered ``0..n-1`` in their old
    order, and ``raw_id`` of both node types holds their old ids: entries of the graph's own
    ``raw_id`` if it has one, else the old numbers, int64 ``[n]``.

    Attributes of nodes and edges follow them, and edges of other types lose the removed nodes.
    Test targets in ``edge_label_index`` do not count as interactions, and those of removed
    nodes are dropped. Ids stored *inside* other attributes are not renumbered: apply this
    before anything that writes lists of ids to the nodes.

    Args:
        k: The minimum number of interactions of a user or an item.
        k_user: The minimum for users, if different.
        k_item: The minimum for items, if different.

    Raises:
        TypeError: If the graph is not a ``HeteroData``.
        ValueError: If a minimum is less than 1, the graph is not a user-item graph, has
            repeated edges, or nothing is left.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> from pyg_kd.transforms import KCore
        >>> data = from_interactions([[7, 7, 8, 8, 9], [1, 2, 1, 2, 2]])
        >>> KCore(2)(data)["user"].raw_id
        tensor([7, 8])
    """

    def __init__(self, k: int = 5, k_user: int | None = None, k_item: int | None = None) -> None:
        self.k_user = k if k_user is None else k_user
        self.k_item = k if k_item is None else k_item
        for name, value in (("k", k), ("k_user", self.k_user), ("k_item", self.k_item)):
            if value < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {value})")

    def forward(self, data: HeteroData) -> HeteroData:
        """Reduce ``data`` to its core."""
        edge_index, num_users, num_items = interactions(data)
        repeated = edge_index.size(1) - (edge_index[0] * num_items + edge_index[1]).unique().numel()
        if repeated:
            raise ValueError(f"'data' must have no repeated edges (got {repeated})")
        edges = self._core(edge_index, num_users, num_items)
        if edges.numel() == 0:
            raise ValueError(f"'data' must have a core for {self} (got none)")
        kept = {kind: edge_index[row, edges].unique() for row, kind in enumerate((USER, ITEM))}
        return select_(data, edges, kept)

    def _core(self, edge_index: Tensor, num_users: int, num_items: int) -> Tensor:
        """The positions of the edges of the core, ascending."""
        alive = torch.arange(edge_index.size(1), device=edge_index.device)
        while True:
            user, item = edge_index[:, alive]
            enough = (torch.bincount(user, minlength=num_users) >= self.k_user)[user]
            enough &= (torch.bincount(item, minlength=num_items) >= self.k_item)[item]
            if bool(enough.all()):
                return alive
            alive = alive[enough]

    def __repr__(self) -> str:
        return f"KCore(k_user={self.k_user}, k_item={self.k_item})"
