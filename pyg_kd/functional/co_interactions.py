"""What entities share: pairs of users with common items, or of items with common users."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch_geometric.utils import lexsort

from pyg_kd.graph import Neighbors

#: Bounds on the number of two-edge paths counted at once; those of an entity stay together.
MIN_PATHS, MAX_PATHS = 2**16, 2**24

#: Sums of weights that differ by less, relatively, are equal but for the order of summation.
TOLERANCE = 1e-9


def co_interactions(
    own: Neighbors, other: Neighbors, weight: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    r"""The off-diagonal nonzeros of :math:`X X^\top`, or of :math:`X W X^\top`, in blocks of rows.

    Args:
        own: What each entity interacted with.
        other: The same edges from the other side.
        weight: The diagonal of :math:`W`, float64 of the other side's size; by default ones.

    Yields:
        Rows, columns and values, the values int64 or, if weighted, float64, all ``[E]``, ascending
        by row, then by column.

    Example:
        >>> own, other = Neighbors(torch.tensor([0, 1, 2]), torch.tensor([0, 0])), Neighbors(
        ...     torch.tensor([0, 2]), torch.tensor([0, 1])
        ... )
        >>> [torch.stack(found).tolist() for found in co_interactions(own, other)]
        [[[0, 1], [1, 0], [1, 1]]]
    """
    size = own.ptr.numel() - 1
    for rows in blocks_of_paths(own, other):
        place, via = own.of(rows)
        path, col = other.of(via)
        row = rows[place[path]]
        key, apart = row * size + col, row != col
        if weight is None:
            key, shared = key[apart].unique(return_counts=True)
        else:
            key, group = key[apart].unique(return_inverse=True)
            shared = weight.new_zeros(len(key)).index_add_(0, group, weight[via[path[apart]]])
        yield key // size, key % size, shared


def blocks_of_paths(own: Neighbors, other: Neighbors) -> tuple[Tensor, ...]:
    """All row ids, in blocks whose two-edge paths need about as much memory as the edges."""
    ends = torch.cat([own.ptr.new_zeros(1), other.degree[own.col].cumsum(0)])[own.ptr]
    return bounded_parts(ends.diff(), min(max(own.col.numel(), MIN_PATHS), MAX_PATHS))


def bounded_parts(counts: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Places in int64 ``counts``, ascending, in parts that sum to little more than ``limit``.

    Example:
        >>> bounded_parts(torch.tensor([2, 2, 3, 9, 1]), 4)
        (tensor([0]), tensor([1, 2]), tensor([3, 4]))
    """
    sizes = torch.bincount(counts.cumsum(0) // limit)
    places = torch.arange(len(counts), device=counts.device)
    return tuple(places.split(sizes[sizes > 0].tolist())) if len(counts) else ()


def ranked(row: Tensor, *keys: Tensor) -> tuple[Tensor, Tensor]:
    """The order by row, then by keys, the last most significant, descending; and places in rows.

    Example:
        >>> ranked(torch.tensor([0, 0, 1]), torch.tensor([1.0, 2.0, 5.0]))
        (tensor([1, 0, 2]), tensor([0, 1, 0]))
    """
    order = lexsort([*keys, -row], descending=True)
    _, size = row[order].unique_consecutive(return_counts=True)
    start = torch.repeat_interleave(size.cumsum(0) - size, size)
    return order, torch.arange(len(row), device=row.device) - start


def among_largest(row: Tensor, value: Tensor, k: int, num_rows: int) -> Tensor:
    """Which positive entries are among the ``k`` largest of their row, bool ``[E]``.

    Those that equal the last of them, but for rounding, are too.

    Example:
        >>> among_largest(torch.zeros(4, dtype=torch.long), torch.tensor([3, 1, 2, 2]), 2, 1)
        tensor([ True, False,  True,  True])
    """
    order, place = ranked(row, value)
    last = value.new_zeros(num_rows, dtype=torch.double)
    at_end = order[place == k - 1]
    last[row[at_end]] = value[at_end].double() * (1 - TOLERANCE)
    return value >= last[row]
