"""Representations of what a batch reads, computed over sampled neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.neighbor_sampling import sample_neighborhood
from pyg_kd.functional.subgraph import Subgraph, subgraph_of
from pyg_kd.graph import interactions
from pyg_kd.models.base import Recommender
from pyg_kd.training.rows_on_demand import KINDS, RowsOnDemand
from pyg_kd.typing import ITEM, USER, XDict


class SampledNeighbors(RowsOnDemand):
    r"""Represents the nodes that the terms of a loss read, and no others.

    For every batch neighbours are drawn around the nodes that the terms say they read, and around
    others once they are read.

    Args:
        model: A model that represents seeds of sampled subgraphs.
        data: The training graph.
        num_neighbors: Neighbours of a node in every hop, -1 for all.
        seed: Seed of the draws; those of an epoch follow from it and from the epoch's number.

    Raises:
        ValueError: If the model has more layers than there are fan-outs, or reads no subgraphs.

    Example:
        >>> import torch
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.functional import gather_rows
        >>> from pyg_kd.models import LightGCN
        >>> from pyg_kd.training import BPR
        >>> from pyg_kd.typing import Batch
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
        super().__init__(edges)
        self.model, self.num_neighbors, self.seed = model, num_neighbors, seed
        self.neighbors = {USER: edges.by_user(), ITEM: edges.by_item()}
        self.generator = Generator(edges.edge_index.device)
        self.begin_epoch(0)
        with torch.no_grad():
            self.compute({kind: edges.edge_index[0, :0] for kind in KINDS})

    def begin_epoch(self, epoch: int) -> None:
        """Start an epoch and its draws."""
        super().begin_epoch(epoch)
        self.generator.manual_seed(self.seed * 1_000_003 + epoch + 7_727)

    def draw(self, seeds: dict[str, Tensor]) -> Subgraph:
        """A neighbourhood of distinct seeds."""
        drawn = sample_neighborhood(
            self.neighbors, seeds, self.num_neighbors, generator=self.generator
        )
        return subgraph_of(drawn, self.neighbors)

    def compute(self, seeds: XDict) -> XDict:
        """Representations of distinct nodes, over neighbours that are drawn now."""
        return self.model.represent_seeds(self.draw(seeds))
