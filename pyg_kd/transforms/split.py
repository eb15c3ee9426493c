"""What the splits share: which edges of a user are held out, and the three graphs."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from scipy.sparse import coo_array
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage

from pyg_kd.edge_types import interaction_type
from pyg_kd.graph import as_edges, interactions, on_numpy
from pyg_kd.transforms.attributes import BLOCK, edge_attributes, of_targets, take
from pyg_kd.transforms.relations import edges_of, keys, without_pairs_

#: ``(train, val, test)``.
Split = tuple[HeteroData, HeteroData, HeteroData]

TRAIN, VAL, TEST = 0, 1, 2

#: Descents in a sequence of keys up to which it is merged, not sorted.
FEW = 64

#: Edges in which to look for those that are held out, as a multiple of them: with twice as many,
#: some users of few edges lack one, and finding theirs costs less than a longer part of the order.
ENOUGH = 2


def checked_edges(data: HeteroData) -> tuple[Tensor, int]:
    r"""Return the edges to split, int64 ``[2, E]``, and the number of users.

    Raises:
        TypeError: If ``data`` is not a ``HeteroData``.
        ValueError: If ``data`` is not a user-item graph, has no edges, has an edge
            twice, as the two could end up on different sides of the split, or also holds
            its edges in a sparse matrix.
    """
    edge_index, num_users, _ = interactions(data)
    edges_of(data, interaction_type(data))
    if edge_index.size(1) == 0:
        raise ValueError("'data' must have edges to split (got none)")
    repeated = 0 if _ascending(edge_index) else _repeated(keys(data, edge_index))
    if repeated:
        raise ValueError(
            f"'data' must have no repeated edges (got {repeated}): pyg_kd.transforms.UserItem() "
            "merges them"
        )
    return edge_index, num_users


def _ascending(edge_index: Tensor) -> bool:
    """Whether edges ascend by user, then by item, none of them twice; in small blocks."""
    for start in range(0, edge_index.size(1) - 1, BLOCK):
        user, item = edge_index[:, start : start + BLOCK + 1]
        right = (user[1:] == user[:-1]) & (item[1:] > item[:-1])
        if not bool(right.logical_or_(user[1:] > user[:-1]).all()):
            return False
    return True


def _repeated(key: Tensor) -> int:
    """How many of int64 keys, which are overwritten, are there already."""
    if on_numpy(key):
        descents = _count(key[1:] < key[:-1])
        # A few ascending sequences, files one after another for example, merge in linear time.
        key.numpy().sort(kind="stable" if descents < FEW else None)
    else:
        key = key.sort().values
    return _count(key[1:] == key[:-1])


def _count(mask: Tensor) -> int:
    """How often a mask is true."""
    return int(np.count_nonzero(mask.numpy()) if on_numpy(mask) else mask.sum())


def check_fractions(val: float, test: float) -> None:
    """Raise ``ValueError`` unless the fractions are not negative and sum to less than 1."""
    for name, value in (("val", val), ("test", test)):
        if not 0 <= value < 1:
            raise ValueError(f"'{name}' must lie in 0..1, 1 excluded (got {value})")
    if val + test >= 1:
        raise ValueError(f"'val' + 'test' must be less than 1 (got {val} + {test})")


def edge_times(data: HeteroData) -> Tensor:
    r"""Return the edge attribute ``time``, ``[E]``.

    Raises:
        ValueError: If there is none, or not one finite number per edge.
    """
    store = interaction_store(data)
    if "time" not in store:
        raise ValueError(f"'data' must have the edge attribute 'time' (got {list(store.keys())})")
    time: Tensor = store.time
    if time.dim() != 1 or time.numel() != store.edge_index.size(1):
        raise ValueError(
            f"'time' must have the shape [{store.edge_index.size(1)}] (got {list(time.shape)})"
        )
    if time.is_floating_point() and not bool(time.isfinite().all()):
        raise ValueError("'time' must be finite (got nan or inf)")
    return time


def has_targets(data: HeteroData) -> bool:
    """Whether the graph brings its own test targets."""
    return "edge_label_index" in interaction_store(data)


def interaction_store(data: HeteroData) -> EdgeStorage:
    """The interactions and their attributes."""
    store: EdgeStorage = data[interaction_type(data)]
    return store


def held_out(
    user: Tensor,
    num_val: Tensor,
    num_test: Tensor,
    seed: int,
    time: Tensor | None = None,
) -> Tensor:
    r"""Hold out edges of every user, at random or latest first: test targets, then validation.

    Args:
        user: The user of each edge, int64 ``[E]``.
        num_val: How many of each user's edges become validation targets, int64 ``[U]``; below 0
            is none.
        num_test: The same of test targets; both together at most all.
        seed: Seed of the order, or of the order among equal times.
        time: If given, the latest edges are held out.

    Returns:
        ``TRAIN``, ``VAL`` or ``TEST`` for each edge, int8 ``[E]``.
    """
    generator = torch.Generator().manual_seed(seed)
    number = torch.int32 if user.numel() < 2**31 else torch.int64  # the order is the same
    order = torch.randperm(user.numel(), generator=generator, dtype=number).to(user.device)
    if time is not None:
        order = order[time[order.long()].argsort(stable=True, descending=True)]
    num_val, num_test = num_val.clamp(min=0), num_test.clamp(min=0)
    sizes = num_val.numel(), user.numel()
    grouped, first = _by_user(*_leading(order, user, num_val + num_test), sizes)
    part = torch.full_like(user, TRAIN, dtype=torch.int8)
    for name, start, count in ((TEST, first, num_test), (VAL, first + num_test, num_val)):
        shift = start - (count.cumsum(0) - count)
        place = shift.repeat_interleave(count)
        place += torch.arange(place.numel(), device=user.device)
        part.index_fill_(0, grouped.index_select(0, place).long(), name)
    return part


def _leading(order: Tensor, user: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Edges in an order without many that no user has among the first ``count``, and their users.

    Users are read at random, and a part of the order has as many edges as most users need.
    """
    if not on_numpy(user):
        return order, user[order.long()]
    size = math.ceil(ENOUGH * int(count.sum()))
    head, rest, small = order[:size], order[size:], user.to(order.dtype)
    row = small.index_select(0, head)  # NumPy would make int64 of the numbers
    if len(rest):
        lacking = torch.bincount(row, minlength=count.numel()) < count
        late = take(rest, take(lacking, user).index_select(0, rest))
        head, row = torch.cat([head, late]), torch.cat([row, small.index_select(0, late)])
    return head, row


def _by_user(edge: Tensor, user: Tensor, sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Edges, with the user of each, user by user, and where each user's begin, ``[U]``."""
    if not on_numpy(user):
        degree = torch.bincount(user, minlength=sizes[0])
        return edge[user.argsort(stable=True)], degree.cumsum(0) - degree
    # A counting sort, where PyTorch compares: the columns of a sparse matrix, row by row.
    ids = user.numpy(), edge.numpy()
    matrix = coo_array((np.empty(len(edge), np.int8), ids), shape=sizes)
    matrix.has_canonical_format = True  # or columns would be sorted
    csr = matrix.tocsr()
    return torch.from_numpy(csr.indices), torch.from_numpy(csr.indptr[:-1]).long()


def split_graph(data: HeteroData, part: Tensor) -> Split:
    r"""Build the three graphs from the part of every edge.

    Other relations from user to item lose the pairs that are held out; other edge types stay.

    Args:
        data: The graph. If it has an ``edge_label_index``, the test graph keeps it as its
            targets.
        part: ``TRAIN``, ``VAL`` or ``TEST`` for each edge, integers ``[E]``.
    """
    own_targets, store = has_targets(data), interaction_store(data)
    train, val, test = (part == number for number in (TRAIN, VAL, TEST))
    validated = _targets(data, val)
    tested = {} if own_targets else _targets(data, test)
    hidden = as_edges((store if own_targets else tested)["edge_label_index"])
    train_graph = with_messages(data, train)
    without_pairs_(train_graph, validated["edge_label_index"], hidden)
    val_graph = copy.copy(train_graph)
    interaction_store(val_graph).update(validated)
    test_graph = with_messages(data, train | val, keep_targets=own_targets)
    interaction_store(test_graph).update(tested)
    return train_graph, val_graph, without_pairs_(test_graph, hidden)


def with_messages(data: HeteroData, mask: Tensor, keep_targets: bool = False) -> HeteroData:
    """The graph with the edges in ``mask`` and whatever attributes they have."""
    out = copy.copy(data)
    store = interaction_store(out)
    if not keep_targets:
        for key in [key for key in store if of_targets(key)]:
            del store[key]
    store.update(edge_attributes(data, interaction_store(data), mask))
    return out


def set_targets(out: HeteroData, data: HeteroData, mask: Tensor) -> None:
    """Give ``out`` the edges of ``data`` in ``mask`` as targets, with their times."""
    interaction_store(out).update(_targets(data, mask))


def _targets(data: HeteroData, mask: Tensor) -> dict[str, Tensor]:
    store = interaction_store(data)
    found = {"edge_label_index": take(store.edge_index, mask, 1)}
    if "time" in store and store.is_edge_attr("time"):
        found["edge_label_time"] = take(store.time, mask)
    return found
