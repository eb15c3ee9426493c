"""Representations of the rows that the terms of a loss read, and of no others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.neighbor_sampling import SHARE
from pyg_kd.functional.row_tables import make_row_table
from pyg_kd.functional.sampled_propagate import rows_at
from pyg_kd.functional.sampling import distinct_ids
from pyg_kd.graph import Interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict

KINDS = (USER, ITEM)

#: Ids that terms want represented, by node type; ``None`` for a whole table.
Wanted = dict[str, list[Tensor] | None]


class RowsOnDemand(ABC):
    r"""Represents the nodes that the terms of a loss read, and no others.

    Those that terms say they read are represented at once, others when they are read: uniform
    negatives, for example, are drawn while the loss is computed. A type of which some term reads
    the whole table is represented as a whole.

    Args:
        edges: The interactions of the training graph.
    """

    def __init__(self, edges: Interactions) -> None:
        self.sizes = {USER: edges.num_users, ITEM: edges.num_items}
        device = edges.edge_index.device
        #: Where a node stands among those represented so far, -1 for nowhere.
        self.place = {
            kind: torch.full((size,), -1, dtype=torch.int32, device=device)
            for kind, size in self.sizes.items()
        }
        self.found: dict[str, list[tuple[Tensor, Tensor]]] = {kind: [] for kind in KINDS}

    def begin_epoch(self, epoch: int) -> None:
        """Start an epoch, with nothing represented so far."""
        self.forget()

    @abstractmethod
    def compute(self, seeds: XDict) -> XDict:
        """Representations of distinct nodes, int64 ``[R]`` by node type: ``[R, d]`` each."""

    def represent(self, terms: Iterable[nn.Module | None], data: HeteroData, batch: Batch) -> XDict:
        """Tables of the nodes, whose rows are computed for the batch as far as they are read.

        Args:
            terms: The modules of the loss; ``None`` for one that tells nothing.
            data: The training graph.
            batch: The mini-batch. Tables of another one are void from now on.
        """
        self.forget()
        wanted = rows_wanted(terms, data, batch)
        return self.tables(
            {
                kind: None if ids is None else self._distinct(kind, torch.cat(ids))
                for kind, ids in wanted.items()
            }
        )

    def tables(self, wanted: dict[str, Tensor | None]) -> XDict:
        """Tables with the distinct rows that are wanted, others to be computed when they are read.

        Args:
            wanted: Ids by node type; ``None`` for a whole table.
        """
        self._add({k: self._all(k) if ids is None else ids for k, ids in wanted.items()})
        return {
            kind: self.found[kind][0][1] if ids is None else self._table(kind)
            for kind, ids in wanted.items()
        }

    def _table(self, kind: str) -> Tensor:
        x = self.found[kind][0][1]
        table = x.new_full((1, x.size(1)), torch.nan).expand(self.sizes[kind], -1)
        make_row_table(table, lambda index: self._read(kind, index))
        return table

    def _read(self, kind: str, index: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct rows at an index, ascending, and where each id is among them."""
        rows, place = self._distinct(kind, index), self.place[kind]
        new = rows[place[rows] < 0]
        if len(new):
            self._add({kind: new})
        ids = torch.cat([ids for ids, _ in self.found[kind]])
        x = torch.cat([x for _, x in self.found[kind]])
        where = torch.empty_like(place)  # read where it is written
        where[rows] = torch.arange(len(rows), dtype=place.dtype, device=place.device)
        if len(rows) < len(ids) or not torch.equal(rows, ids):
            x = rows_at(x, place[rows].long())
        if not len(rows):
            return x.new_zeros(1, x.size(1)), torch.zeros_like(index)
        # Padding is read as some row, and not used.
        return x, torch.where(index < 0, 0, where[index.clamp(min=0)].long())

    def _add(self, seeds: dict[str, Tensor]) -> None:
        with torch.enable_grad():  # whatever reads them first
            x_dict = self.compute(seeds)
        for kind, ids in seeds.items():
            first, place = sum(len(ids) for ids, _ in self.found[kind]), self.place[kind]
            place[ids] = torch.arange(
                first, first + len(ids), dtype=place.dtype, device=place.device
            )
            self.found[kind].append((ids, x_dict[kind]))

    def forget(self) -> None:
        """Let go of what was represented for the last batch."""
        for kind, found in self.found.items():
            for ids, _ in found:
                self.place[kind][ids] = -1
            found.clear()

    def _all(self, kind: str) -> Tensor:
        return torch.arange(self.sizes[kind], device=self.place[kind].device)

    def _distinct(self, kind: str, index: Tensor) -> Tensor:
        index = index.flatten()
        if index.numel() * SHARE > self.sizes[kind]:
            return torch.as_tensor(distinct_ids(index, self.sizes[kind]))
        rows: Tensor = index[index >= 0].unique()
        return rows.long()


def rows_wanted(terms: Iterable[nn.Module | None], data: HeteroData, batch: Batch) -> Wanted:
    """The rows that terms say they read, by node type; ``None`` where one reads a whole table."""
    own = {USER: batch.unique_users, ITEM: batch.unique_items}
    wanted: Wanted = {kind: [own[kind]] for kind in KINDS}
    for term in terms:
        tells: Any = getattr(term, "rows_read", None)
        told = {} if tells is None else tells(data, batch)
        for kind in KINDS:
            found, ids = wanted[kind], told.get(kind)
            if ids is None and kind not in getattr(term, "row_wise", ()):
                wanted[kind] = None
            elif ids is not None and found is not None:
                found.append(ids.flatten().long())
    return wanted
