"""Reading the user-item graph: its edges, checked and sorted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from operator import index
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from pyg_kd.edge_types import interaction_type
from pyg_kd.typing import ITEM, USER

T = TypeVar("T")


class _Edges(NamedTuple):
    edge_index: Tensor
    num_users: int
    num_items: int


class Interactions(_Edges):
    """The user-item edges of a graph, int64 ``[2, E]``, and its two sizes.

    What is made of the edges, their sorted forms for example, is made when it is first asked for
    and kept as long as the ``edge_index`` of the graph lives and does not change. Whoever reads
    the same edges, through a copy of the graph too, gets the same tensors: they must not be
    changed in place. A change of ``edge_index`` that PyTorch does not count, through ``.data`` or
    a NumPy array of the same memory, goes unnoticed: assign a new tensor instead. Of edges made in
    inference mode, whose changes are not counted either, nothing is kept.
    """

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {}

    def cached(self, name: str, make: Callable[[Interactions], T]) -> T:
        """What ``make`` returns for these edges, made once and kept under ``name``."""
        if name not in self._made:
            with for_training():
                self._made[name] = make(self)
        found: T = self._made[name]
        return found

    def by_user(self) -> Neighbors:
        """The items of every user, ascending; repeated edges count once."""
        return self.cached("by_user", _by_user)

    def by_item(self) -> Neighbors:
        """The users of every item, ascending; repeated edges count once."""
        return self.cached("by_item", _by_item)


def for_training() -> AbstractContextManager[object]:
    """Leaves the inference mode: what is kept from inside of it could not be trained with."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


def _by_user(edges: Interactions) -> Neighbors:
    user, item = edges.edge_index
    return sorted_neighbors(user, item, edges.num_users, edges.num_items)


def _by_item(edges: Interactions) -> Neighbors:
    user, item = edges.edge_index
    return sorted_neighbors(item, user, edges.num_items, edges.num_users)


#: What was made of an ``edge_index``, with its version and the sizes of its graph. Nothing in
#: here may refer to the key, which would then never be freed.
_KEPT: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _kept(edge_index: Tensor, sizes: tuple[int, int]) -> dict[str, Any]:
    version = version_of(edge_index)
    if version is None:
        return {}
    state = (version, sizes)
    found = _KEPT.get(edge_index)
    if found is None or found[0] != state:
        found = _KEPT[edge_index] = (state, {})
    made: dict[str, Any] = found[1]
    return made


def version_of(edge_index: Tensor) -> tuple[int, int] | None:
    """Counts the changes in place; ``None`` for a tensor made in inference mode, which has none."""
    # An EdgeIndex counts its own changes, and the tensor that it wraps those of that.
    plain = edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index
    if edge_index.is_inference() or plain.is_inference():
        return None
    return edge_index._version, plain._version


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
    ends, entry = chosen_entries(ptr, rows, torch.long)
    return torch.repeat_interleave(ends.diff(), output_size=len(entry)), entry


def chosen_entries(ptr: Tensor, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The ``ptr`` of some rows of a CSR pattern, and their entries in it, in a type of integers.

    Example:
        >>> chosen_entries(torch.tensor([0, 1, 3]), torch.tensor([1, 0]), torch.long)
        (tensor([0, 2, 3]), tensor([1, 2, 0]))
    """
    start = ptr.index_select(0, rows).to(dtype)
    degree = ptr.index_select(0, rows + 1).to(dtype) - start
    ends = torch.cat([degree.new_zeros(1), degree.cumsum(0, dtype=dtype)])
    size = int(ends[-1])
    # Where each row's entries are, less where they will be, beside where that is.
    entry = torch.repeat_interleave(start - ends[:-1], degree, output_size=size)
    return ends, entry.add_(torch.arange(size, dtype=dtype, device=entry.device))


def interactions(data: HeteroData) -> Interactions:
    r"""Return the checked user-item edges of a graph.

    Args:
        data: A graph with the node types ``user`` and ``item`` and one edge type from user to
            item, as :func:`interaction_type` reads it; other node and edge types are not looked at.

    Raises:
        TypeError: If ``data`` is not a ``HeteroData``, or its ``edge_index``
            is not a tensor of integers.
        ValueError: If there is no such edge type or it holds ``adj_t`` alone, a node type has no
            size or none of 0 or more, ``edge_index`` is not ``[2, E]``, an id is out of range, or
            there are more pairs of users and items than int64 numbers.
    """
    kind = interaction_type(data)
    found = data[kind].get("edge_index")
    if found is None and "adj_t" in data[kind]:
        raise ValueError(
            f"'data[{kind}]' must have an 'edge_index' (got 'adj_t' alone): leave ToSparseTensor "
            "out, or take the edges back by torch_geometric.utils.to_edge_index(adj_t)[0].flip(0)"
        )
    sizes = num_nodes(data, USER, found, 0), num_nodes(data, ITEM, found, 1)
    made = _kept(found, sizes) if isinstance(found, Tensor) else {}
    plain = made["plain"] if "plain" in made else as_edges(found)
    edges = Interactions(found if plain is None else plain, *sizes)
    if "plain" not in made:
        check_sizes(*sizes)
        check_ids("edge_index[0] (users)", plain[0], edges.num_users)
        check_ids("edge_index[1] (items)", plain[1], edges.num_items)
        # Another form than the one given is converted once; the one given is not referred to.
        made["plain"] = None if plain is found else plain
    vars(edges)["_made"] = made
    return edges


def num_nodes(data: HeteroData, node_type: str, edge_index: object, row: int) -> int:
    """How many nodes of a type there are, or an error that tells how many a row of edges names."""
    size = data[node_type].num_nodes if node_type in data.node_types else None
    if size is not None:
        try:
            found = index(size)
        except TypeError:
            found = -1
        if found < 0:
            raise ValueError(
                f"'data[{node_type!r}].num_nodes' must be an integer of 0 or more (got {size!r})"
            )
        return found
    highest = max(as_edges(edge_index)[row].tolist(), default=None)
    raise ValueError(
        f"'data[{node_type!r}].num_nodes' is not set: give the number of {node_type}s, with and "
        f"without edges (the highest id among the edges: {highest})"
    )


def check_sizes(num_users: int, num_items: int) -> None:
    """Raise ``ValueError`` unless every pair of a user and an item has an int64 number.

    An overflow would give two edges one number. Ids one past the end are numbered too.
    """
    if (num_users + 1) * (num_items + 1) > 2**63 - 1:
        raise ValueError(
            f"'data' must have fewer than 2**63 pairs of a user and an item (got {num_users} users "
            f"and {num_items} items): number those that have edges from 0 on"
        )


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


def as_ids(name: str, ids: object, size: int, device: torch.device | None) -> Tensor:
    """Ids of nodes as int64 ``[n]`` on a device, from a tensor, an array or a list of them.

    Raises:
        TypeError: If they are not integers.
        ValueError: If they are not one-dimensional, or one is out of range.
    """
    try:
        # NumPy reads a pandas column by place, and PyTorch takes no array of negative strides.
        plain = ids if isinstance(ids, Tensor) else np.array(ids, order="C")
        found = torch.as_tensor(plain, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        shown = f"{ids!r:.60}"
        raise TypeError(f"'{name}' must be integers, ids of nodes (got {shown})") from error
    if found.dim() != 1:
        raise ValueError(f"'{name}' must be one-dimensional (got shape {list(found.shape)})")
    if found.numel() and (found.is_floating_point() or found.dtype == torch.bool):
        raise TypeError(f"'{name}' must be integers, ids of nodes (got {found.dtype})")
    found = found.long()  # first: PyTorch compares no uint64
    check_ids(name, found, size)
    return found


def node_ids(data: HeteroData, node_type: str, name: str, ids: object) -> Tensor:
    """Ids of nodes of a graph, where its edges are; who gives other identifiers gets a hint.

    Raises:
        TypeError: If they are not integers.
        ValueError: If they are not one-dimensional, or one is out of range.
    """
    device, size = interactions(data).edge_index.device, int(data[node_type].num_nodes or 0)
    try:
        return as_ids(name, ids, size, device)
    except (TypeError, ValueError) as error:
        if "raw_id" not in data[node_type]:
            raise
        hint = f"nodes are numbered in the order of data[{node_type!r}].raw_id"
        raise type(error)(f"{error}: {hint}, so look up where an identifier stands there") from None


def sorted_neighbors(row: Tensor, col: Tensor, num_rows: int, num_cols: int) -> Neighbors:
    r"""Group ``col`` by ``row``, both ascending, duplicates dropped.

    Args:
        row: int64 ``[E]``.
        col: int64 ``[E]``.
        num_rows: Number of rows; rows without an edge get an empty range.
        num_cols: Number of columns.
    """
    return neighbors_of_keys(row * num_cols + col, num_rows, num_cols)


def neighbors_of_keys(
    key: Tensor, num_rows: int, num_cols: int, *, merge: bool = False
) -> Neighbors:
    """As :func:`sorted_neighbors`, of keys ``row * num_cols + col``, which are overwritten.

    With ``merge``, keys that are a few ascending sequences, one after another, take linear time.
    """
    key = _distinct(key, merge)
    row = key.div(num_cols, rounding_mode="floor")
    ptr = torch.zeros(num_rows + 1, dtype=torch.long, device=row.device)
    ptr[1:] = torch.bincount(row, minlength=num_rows).cumsum(0)
    return Neighbors(ptr, key.sub_(row.mul_(num_cols)))


def _distinct(key: Tensor, merge: bool) -> Tensor:
    """The distinct ones among int64 keys, ascending; a new tensor, ``key`` may be overwritten."""
    if not on_numpy(key):
        distinct: Tensor = key.unique()
        return distinct
    if not bool((key[1:] >= key[:-1]).all()):
        # A third of the time of PyTorch's sort; the stable one looks for ascending sequences.
        key.numpy().sort(kind="stable" if merge else None)
    new = key[1:] != key[:-1]
    return key if bool(new.all()) else key[torch.cat([new.new_ones(1), new])]


def tensors_of(data: HeteroData) -> Iterator[tuple[Any, str, Tensor]]:
    """Strided tensors of a graph: the store of each, its name there, and what it holds."""
    stores: list[Any] = [*data.node_stores, *data.edge_stores]
    for store in stores:
        for name, value in sorted(store.items()):
            if isinstance(value, Tensor):
                # An `EdgeIndex` checks what is done to it.
                value = value.as_subclass(Tensor)
                if value.layout == torch.strided:
                    yield store, name, value


def on_numpy(x: Tensor) -> bool:
    """Whether NumPy can work on a tensor in place: on the CPU, and none that only has a shape."""
    return x.device.type == "cpu" and type(x) is Tensor
