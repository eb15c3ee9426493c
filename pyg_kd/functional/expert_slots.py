"""Entities routed to experts, laid out so that a few batched products serve all experts.

A product for each expert is so small that several threads spend longer on starting it than on
computing it, and a batch as wide as the busiest of all experts is mostly padding. So neighbouring
experts of similar load make a run, in which each has as many slots as the busiest of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.index import index2ptr

from pyg_kd.functional.sparse import csr_matmul

#: The products of a run take as long to launch as so many slots to compute.
LAUNCH = 64

#: Experts of a run at most, which bounds the time to plan.
LONGEST = 32


class Run(NamedTuple):
    """Experts ``start..stop`` with ``slots`` each."""

    start: int
    stop: int
    slots: int


def plan_runs(loads: Sequence[int]) -> list[Run]:
    """The runs that cost least: slots, padding included, and launches.

    Example:
        >>> plan_runs([30, 28, 33, 400])
        [Run(start=0, stop=3, slots=33), Run(start=3, stop=4, slots=400)]
    """
    cost, cut = [0], [0]
    for stop in range(1, len(loads) + 1):
        slots, found = 0, []
        for start in range(stop - 1, max(stop - LONGEST, 0) - 1, -1):
            slots = max(slots, loads[start])
            found.append((cost[start] + (stop - start) * slots + LAUNCH * (slots > 0), start))
        least, start = min(found)
        cost.append(least)
        cut.append(start)
    runs, stop = [], len(loads)
    while stop:
        runs.append(Run(cut[stop], stop, max(loads[cut[stop] : stop])))
        stop = cut[stop]
    return runs[::-1]


class ExpertSlots:
    """The entity-expert edges of some weights, and a slot for each.

    What slots hold is an array with a row a slot. A slot without an edge has weight zero.

    Args:
        weight: Routing weights, ``[n, M]``.
        matters: Which of them are edges, bool ``[n, M]``.
    """

    def __init__(self, weight: Tensor, matters: Tensor) -> None:
        n, num_experts = weight.shape
        #: Where the edges are in the flattened weights, by entity.
        self.edge = matters.flatten().nonzero().squeeze(1)
        entity = self.edge.div(num_experts, rounding_mode="floor")
        expert = self.edge - entity * num_experts
        self.ptr = index2ptr(entity, n).to(torch.int32)
        self.weight = weight.flatten().index_select(0, self.edge)
        loads = torch.bincount(expert, minlength=num_experts)
        self.runs = plan_runs(loads.tolist())
        sizes = [run.slots for run in self.runs for _ in range(run.start, run.stop)]
        begin = loads.new_tensor([0, *accumulate(sizes)])
        order = expert.to(torch.int32).argsort(stable=True)
        expert, place = expert[order], torch.arange(len(order), device=order.device)
        place += (begin[:-1] - loads.cumsum(0) + loads)[expert]
        self.slot = torch.empty_like(place).index_copy_(0, order, place)
        self.entity_of = place.new_zeros(sum(sizes)).index_copy_(0, self.slot, entity)
        self.weight_of = weight.new_zeros(sum(sizes)).index_copy_(0, self.slot, self.weight)

    def parts(self, *arrays: Tensor) -> Iterator[tuple[Any, ...]]:
        """The experts of each run that has slots, and its part of arrays, ``[k, slots, ...]``."""
        first = 0
        for start, stop, slots in self.runs:
            rows = slice(first, first + (stop - start) * slots)
            first = rows.stop
            if slots:
                cuts = (array[rows].unflatten(0, (stop - start, slots)) for array in arrays)
                yield slice(start, stop), *cuts

    def idle(self) -> Iterator[slice]:
        """The experts of each run that has no slots."""
        for start, stop, slots in self.runs:
            if not slots:
                yield slice(start, stop)

    def to_entities(self, value: Tensor, weight: Tensor) -> Tensor:
        """Sum over the edges of each entity what their slots hold, times a weight of each edge."""
        total: Tensor = csr_matmul(self.ptr, self.slot.to(torch.int32), weight, value)
        return total
