"""Representations of what a batch reads, computed over sampled neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.neighbor_sampling import SHARE, sample_neighborhood
from pyg_kd.functional.row_tables import make_row_table
from pyg_kd.functional.sampled_propagate import rows_at
from pyg_kd.functional.sampling import distinct_ids
from pyg_kd.functional.subgraph import Subgraph, subgraph_of
from pyg_kd.graph import interactions
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER, Batch, XDict

KINDS = (USER, ITEM)


class SampledNeighbors:
    r"""Represents the nodes that the terms of a loss read, and no others.

    For every batch neighbours are drawn around the nodes that the terms say they read, and around
    others once they are read: uniform negatives, for example, are drawn while the loss is computed.
    A type of which some term reads the whole table is represented as a whole.

    Args:
        model: A model that represents seeds of sampled subgraphs.
        data: The training graph.
        num_neighbors: Neighbours of a node in every hop, -1 for all.
        seed: Seed of the draws; those of an epoch follow from it and from the epoch's number.

    Raises:
        ValueError: If the model has more layers than there are fan-outs, or reads no subgraphs.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.functional import gather_rows
        >>> from pyg_kd.models import LightGCN
        >>> from pyg_kd.training import BPR
        >>> data = SyntheticInteractions(num_users=20, num_items=10, num_edges=80)[0]
        >>> sampled = SampledNeighbors(LightGCN(data, dim=4), data, [3, 3])
        >>> batch = Batch(*torch.tensor([[3, 4], [1, 1], [0, 2]]))
        >>> x_dict = sampled.represent([BPR()], data, batch)
        >>> x_dict["user"].shape, gather_rows(x_dict["user"], batch.user).shape
        (torch.Size([20, 4]), torch.Size([2, 4]))
    """

    def __init__(
        self, model: Recommender, data: HeteroData, num_neighbors: Sequence[int], seed: int = 0
    ) -> None:
        edges = interactions(data)
        self.model, self.num_neighbors, self.seed = model, num_neighbors, seed
        self.neighbors = {USER: edges.by_user(), ITEM: edges.by_item()}
        self.sizes = {USER: edges.num_users, ITEM: edges.num_items}
        device = edges.edge_index.device
        #: Where a node stands among those represented so far, -1 for nowhere.
        self.place = {
            kind: torch.full((size,), -1, dtype=torch.int32, device=device)
            for kind, size in self.sizes.items()
        }
        self.found: dict[str, list[tuple[Tensor, Tensor]]] = {kind: [] for kind in KINDS}
        self.generator = Generator(device)
        self.begin_epoch(0)
        with torch.no_grad():
            model.represent_seeds(self.draw({kind: edges.edge_index[0, :0] for kind in KINDS}))

    def begin_epoch(self, epoch: int) -> None:
        """Start the draws of an epoch."""
        self.generator.manual_seed(self.seed * 1_000_003 + epoch + 7_727)

    def draw(self, seeds: dict[str, Tensor]) -> Subgraph:
        """A neighbourhood of distinct seeds."""
        drawn = sample_neighborhood(
            self.neighbors, seeds, self.num_neighbors, generator=self.generator
        )
        return subgraph_of(drawn, self.neighbors)

    def represent(self, terms: Iterable[nn.Module | None], data: HeteroData, batch: Batch) -> XDict:
        """Tables of the nodes, whose rows are computed for the batch as far as they are read.

        Args:
            terms: The modules of the loss; ``None`` for one that tells nothing.
            data: The training graph.
            batch: The mini-batch. Tables of another one are void from now on.
        """
        self._forget()
        wanted = rows_wanted(terms, data, batch)
        seeds = {
            kind: self._all(kind) if ids is None else self._distinct(kind, torch.cat(ids))
            for kind, ids in wanted.items()
        }
        self._add(seeds)
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
            x_dict = self.model.represent_seeds(self.draw(seeds))
        for kind, ids in seeds.items():
            first, place = sum(len(ids) for ids, _ in self.found[kind]), self.place[kind]
            place[ids] = torch.arange(
                first, first + len(ids), dtype=place.dtype, device=place.device
            )
            self.found[kind].append((ids, x_dict[kind]))

    def _forget(self) -> None:
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


def rows_wanted(
    terms: Iterable[nn.Module | None], data: HeteroData, batch: Batch
) -> dict[str, list[Tensor] | None]:
    """The rows that terms say they read, by node type; ``None`` where one reads a whole table."""
    own = {USER: batch.unique_users, ITEM: batch.unique_items}
    wanted: dict[str, list[Tensor] | None] = {kind: [own[kind]] for kind in KINDS}
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
