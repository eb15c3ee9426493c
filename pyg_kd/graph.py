"""Reading the user-item graph: its edges, checked, and their sorted form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from pyg_kd.typing import ITEM, USER


class Interactions(NamedTuple):
    """The user-item edges of a graph, int64 ``[2, E]``, and its two sizes."""

    edge_index: Tensor
    num_users: int
    num_items: int

    def by_user(self) -> Neighbors:
        """The items of every user, ascending; repeated edges count once."""
        user, item = self.edge_index
        return sorted_neighbors(user, item, self.num_users, self.num_items)

    def of_users(self, users: Tensor) -> Neighbors:
        """The items of some users, each named once, row by row in their order.

        The edges of the others are not sorted, which is what :meth:`by_user` takes its time for.
        """
        user, item = self.edge_index
        row = user.new_full((self.num_users,), -1)
        row[users] = torch.arange(len(users), device=row.device)
        row = row[user]
        kept = row >= 0
        return sorted_neighbors(row[kept], item[kept], len(users), self.num_items)

    def by_item(self) -> Neighbors:
        """The users of every item, ascending; repeated edges count once."""
        user, item = self.edge_index
        return sorted_neighbors(item, user, self.num_items, self.num_users)


class Neighbors(NamedTuple):
    """A CSR pattern: ``col[ptr[r]:ptr[r + 1]]`` are the neighbours of ``r``, ascending."""

    ptr: Tensor
    col: Tensor

    @property
    def degree(self) -> Tensor:
        """How many neighbours each row has, int64 ``[rows]``."""
        return self.ptr.diff()

    @property
    def row(self) -> Tensor:
        """The row of each neighbour, int64, beside ``col``."""
        return torch.repeat_interleave(self.degree, output_size=self.col.numel())

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The edges of ``rows``: position in ``rows`` and neighbour, both int64."""
        index, entry = entries_of(self.ptr, rows)
        return index, self.col[entry]


def entries_of(ptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row the entries of a CSR pattern: position in ``rows`` and entry, both int64."""
    start = ptr[rows].long()
    degree = ptr[rows + 1] - start
    index = torch.repeat_interleave(degree)
    shift = start - (degree.cumsum(0) - degree)
    return index, shift[index] + torch.arange(index.numel(), device=rows.device)


def interactions(data: HeteroData) -> Interactions:
    r"""Return the checked user-item edges of a graph.

    Args:
        data: A graph with the node types ``user`` and ``item`` and exactly
            one edge type from user to item.

    Raises:
        TypeError: If ``data`` is not a ``HeteroData``, or its ``edge_index``
            no tensor of integers.
        ValueError: If the node types or edge types are others, a node type
            has no size, ``edge_index`` is not ``[2, E]``, or an id is out of range.
    """
    if not isinstance(data, HeteroData):
        raise TypeError(f"'data' must be a HeteroData (got {type(data).__name__})")
    if sorted(data.node_types) != [ITEM, USER]:
        raise ValueError(
            f"'data' must have the node types 'user' and 'item' (got {sorted(data.node_types)})"
        )
    edge_types = [e for e in data.edge_types if (e[0], e[2]) == (USER, ITEM)]
    if len(edge_types) != 1 or len(data.edge_types) != 1:
        raise ValueError(
            f"'data' must have one edge type, from 'user' to 'item' (got {data.edge_types}): "
            "delete reverse edges, in which targets would stay after a split, and make them in "
            "the model by edge_index.flip(0)"
        )
    sizes = []
    for node_type in (USER, ITEM):
        size = data[node_type].num_nodes
        if size is None:
            raise ValueError(f"'data[{node_type!r}].num_nodes' is not set")
        sizes.append(int(size))
    edge_index = as_edges(data[edge_types[0]].get("edge_index"))
    check_ids("edge_index[0] (users)", edge_index[0], sizes[0])
    check_ids("edge_index[1] (items)", edge_index[1], sizes[1])
    return Interactions(edge_index, sizes[0], sizes[1])


def as_edges(edge_index: object, name: str = "edge_index") -> Tensor:
    """A plain int64 ``[2, E]`` tensor of what is given as edges, or an error naming ``name``."""
    if isinstance(edge_index, EdgeIndex):
        edge_index = edge_index.as_tensor()
    if not isinstance(edge_index, Tensor):
        raise TypeError(f"{name!r} must be a tensor (got {type(edge_index).__name__})")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"{name!r} must have shape [2, E] (got {list(edge_index.shape)})")
    if edge_index.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name!r} must be int64 (got {edge_index.dtype})")
    # Pairs of ids become one key, which exceeds 32 bits.
    return edge_index.long()


def check_ids(name: str, ids: Tensor, size: int) -> None:
    """Raise ``ValueError`` unless all of ``ids`` lie in ``0..size - 1``."""
    if ids.numel() == 0 or ids.is_meta:
        return
    low, high = (int(v) for v in torch.aminmax(ids))
    if low < 0 or high >= size:
        raise ValueError(f"'{name}' must lie in 0..{size - 1} (got {low if low < 0 else high})")


def as_ids(name: str, ids: object, size: int, device: torch.device) -> Tensor:
    """Ids of nodes as int64 ``[n]`` on a device, from a tensor, an array or a list of them.

    Raises:
        TypeError: If they are no integers.
        ValueError: If they are not one-dimensional, or one is out of range.
    """
    found = torch.as_tensor(ids, device=device)
    if found.dim() != 1:
        raise ValueError(f"'{name}' must be one-dimensional (got shape {list(found.shape)})")
    if found.numel() and (found.is_floating_point() or found.dtype == torch.bool):
        raise TypeError(f"'{name}' must be integers, ids of nodes (got {found.dtype})")
    check_ids(name, found, size)
    return found.long()


def sorted_neighbors(row: Tensor, col: Tensor, num_rows: int, num_cols: int) -> Neighbors:
    r"""Group ``col`` by ``row``, both ascending, duplicates dropped.

    Args:
        row: int64 ``[E]``.
        col: int64 ``[E]``.
        num_rows: Number of rows; rows without an edge get an empty range.
        num_cols: Number of columns.
    """
    key = (row * num_cols + col).unique()
    ptr = torch.zeros(num_rows + 1, dtype=torch.long, device=row.device)
    ptr[1:] = torch.bincount(key.div(num_cols, rounding_mode="floor"), minlength=num_rows).cumsum(0)
    return Neighbors(ptr, key.remainder(num_cols))
