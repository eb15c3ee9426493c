"""Sampling neighbourhoods of a user-item graph, hop by hop, by tensor operations."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from pyg_kd.functional.sampling import distinct_ids, draw_ranks
from pyg_kd.graph import Neighbors, entries_of
from pyg_kd.typing import ITEM, USER

#: The other side of every edge.
OTHER = {USER: ITEM, ITEM: USER}

#: A table of all nodes is marked where the ids are no fewer than a share of them, else they are
#: sorted.
SHARE = 16


class SampledEdges(NamedTuple):
    """Edges that were drawn for some nodes: a message each, from a neighbour to its node.

    ``row`` is the place of the node and ``col`` that of the neighbour in the lists of sampled nodes
    of their types, both int64 and ``row`` ascending; ``entry`` is the place of the edge in the
    neighbours of all nodes.
    """

    row: Tensor
    col: Tensor
    entry: Tensor


class Neighborhood(NamedTuple):
    """The nodes and edges of a few hops around some seeds.

    ``nodes`` are global ids by node type, the seeds first, then what every hop added, ascending;
    ``edges`` are the messages into the nodes of a type; ``num_nodes`` and ``num_edges`` count by
    type what every hop added, the seeds as hop 0 of the nodes.
    """

    nodes: dict[str, Tensor]
    edges: dict[str, SampledEdges]
    num_nodes: dict[str, list[int]]
    num_edges: dict[str, list[int]]


def check_fan_outs(num_neighbors: object) -> tuple[int, ...]:
    """Fan-outs, one a hop, as integers; or ``ValueError``."""
    plain = [num_neighbors] if isinstance(num_neighbors, (str, bytes)) else num_neighbors
    values = list(plain) if isinstance(plain, Sequence) else []
    valid = [isinstance(v, Integral) and not isinstance(v, bool) and int(v) >= -1 for v in values]
    if not values or not all(valid) or 0 in values:
        raise ValueError(
            "'num_neighbors' must be a list of positive integers, one a hop, with -1 for all "
            f"neighbours (got {num_neighbors!r})"
        )
    return tuple(int(v) for v in values)


def sample_neighbors(
    neighbors: Neighbors, rows: Tensor, num: int, *, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    r"""Draw neighbours of some nodes, uniformly and without replacement.

    Args:
        neighbors: The neighbours of all nodes.
        rows: The nodes, int64 ``[n]``.
        num: Neighbours of each, -1 for all; who has fewer keeps them all.
        generator: Random state; PyTorch's global one by default.

    Returns:
        Row by row the place in ``rows`` and the place in ``neighbors.col`` of every edge that was
        drawn, both int64 ``[E]``.

    Example:
        >>> pairs = Neighbors(ptr=torch.tensor([0, 3, 4]), col=torch.tensor([5, 6, 7, 8]))
        >>> place, entry = sample_neighbors(pairs, torch.tensor([1, 0]), 2)
        >>> place, pairs.col[entry[:1]]
        (tensor([0, 1, 1]), tensor([8]))
    """
    start = neighbors.ptr[rows]
    degree = neighbors.ptr[rows + 1] - start
    many = (degree > num).nonzero().squeeze(1)
    if num == -1 or not len(many):
        return entries_of(neighbors.ptr, rows)
    place = torch.arange(num, device=rows.device).repeat(len(rows), 1)
    place[many] = draw_ranks(degree[many], num, False, generator)
    kept = (place < degree.unsqueeze(1)).flatten().nonzero().squeeze(1)
    entry = place.add_(start.unsqueeze(1)).flatten().index_select(0, kept)
    return kept.div(num, rounding_mode="floor"), entry


def sample_neighborhood(
    neighbors: dict[str, Neighbors],
    seeds: dict[str, Tensor],
    num_neighbors: Sequence[int],
    *,
    generator: Generator | None = None,
) -> Neighborhood:
    r"""Draw the neighbourhood of some nodes, as PyG's samplers do for both directions of the edges.

    Hop by hop neighbours are drawn for the nodes that the hop before has added. A node is expanded
    once, in the first hop that meets it.

    Args:
        neighbors: The items of every user and the users of every item, by node type.
        seeds: Distinct nodes by type, int64; a type may be missing.
        num_neighbors: Neighbours of a node in every hop, -1 for all.
        generator: Random state; PyTorch's global one by default.
    """
    nodes = {
        kind: [seeds.get(kind, near.ptr.new_empty(0))] for kind, near in neighbors.items()
    }  # fmt: skip
    place = {kind: _places(near, nodes[kind][0]) for kind, near in neighbors.items()}
    edges: dict[str, list[SampledEdges]] = {kind: [] for kind in neighbors}
    for num in num_neighbors:
        last = {kind: found[-1] for kind, found in nodes.items()}
        drawn = {}
        for kind, near in neighbors.items():
            row, entry = sample_neighbors(near, last[kind], num, generator=generator)
            drawn[kind] = row, entry, near.col.index_select(0, entry)
        for kind, (_, _, sender) in drawn.items():
            other = OTHER[kind]
            nodes[other].append(_add_new(place[other], sender, nodes[other]))
        for kind, (row, entry, sender) in drawn.items():
            first = sum(map(len, nodes[kind][:-2]))
            col = place[OTHER[kind]].index_select(0, sender).long()
            edges[kind].append(SampledEdges(row + first, col, entry))
    return Neighborhood(
        {kind: torch.cat(found) for kind, found in nodes.items()},
        {kind: SampledEdges(*map(torch.cat, zip(*e, strict=True))) for kind, e in edges.items()},
        {kind: list(map(len, found)) for kind, found in nodes.items()},
        {kind: [len(e.row) for e in found] for kind, found in edges.items()},
    )


def _places(neighbors: Neighbors, seeds: Tensor) -> Tensor:
    """Where every node stands among those sampled, int32, -1 for nowhere."""
    size, device = neighbors.ptr.numel() - 1, neighbors.ptr.device
    place = torch.full((size,), -1, dtype=torch.int32, device=device)
    place[seeds] = torch.arange(len(seeds), dtype=torch.int32, device=device)
    return place


def _add_new(place: Tensor, found: Tensor, nodes: list[Tensor]) -> Tensor:
    """The distinct nodes among those found that have no place, ascending; they get one."""
    new = found[place.index_select(0, found) < 0]
    many = new.numel() * SHARE > len(place)
    new = torch.as_tensor(distinct_ids(new, len(place)) if many else new.unique())
    first = sum(map(len, nodes))
    place[new] = torch.arange(first, first + len(new), dtype=torch.int32, device=place.device)
    return new
