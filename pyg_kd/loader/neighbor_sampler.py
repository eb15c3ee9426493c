"""A sampler of neighbours for PyG's loaders that needs no compiled extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import get_worker_info
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr
from torch_geometric.sampler import (
    BaseSampler,
    EdgeSamplerInput,
    HeteroSamplerOutput,
    NegativeSampling,
    NodeSamplerInput,
    SamplerOutput,
)
from torch_geometric.sampler.neighbor_sampler import edge_sample, node_sample
from torch_geometric.typing import EdgeType

from pyg_kd.edge_types import types_between
from pyg_kd.functional.neighbor_sampling import OTHER, check_fan_outs, sample_neighborhood
from pyg_kd.graph import Neighbors, as_edges, check_ids
from pyg_kd.typing import ITEM, USER


class NeighborSampler(BaseSampler):
    r"""Draws neighbours for PyG's loaders by tensor operations.

    PyG's own sampler needs ``pyg-lib`` or ``torch-sparse``. This one takes its place, as the
    ``neighbor_sampler`` of :class:`torch_geometric.loader.NeighborLoader` and of
    :class:`torch_geometric.loader.LinkNeighborLoader`, with the same batches: uniform draws without
    replacement, directional edges, nodes in the order of hops. Equal seeds give equal bits.

    Args:
        graph: What :func:`~pyg_kd.loader.sampling_graph` returns.
        num_neighbors: Neighbours of a node in every hop, -1 for all.
        generator: Random state; PyTorch's global one by default, and always in workers.

    Raises:
        ValueError: If the graph has no edges in both directions, or a fan-out is invalid.

    Example:
        >>> from torch_geometric.loader import NeighborLoader
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.loader import sampling_graph
        >>> data = SyntheticInteractions(num_users=20, num_items=10, num_edges=80)[0]
        >>> graph = sampling_graph(data)
        >>> sampler = NeighborSampler(graph, [2, 2])
        >>> loader = NeighborLoader(graph, [2, 2], ("user", None), neighbor_sampler=sampler)
        >>> next(iter(loader))["user"].n_id[:1]
        tensor([0])
    """

    def __init__(
        self,
        graph: HeteroData,
        num_neighbors: Sequence[int],
        *,
        generator: Generator | None = None,
    ) -> None:
        self.num_neighbors = check_fan_outs(num_neighbors)
        self.generator = generator
        #: The edge type whose messages reach a node type.
        self.kinds = {kind: _into(graph, kind) for kind in (USER, ITEM)}
        self.num_nodes = {kind: int(graph[kind].num_nodes or 0) for kind in (USER, ITEM)}
        self.neighbors, self.permutation = {}, {}
        for kind, edge_type in self.kinds.items():
            self.neighbors[kind], self.permutation[edge_type] = self._sorted(graph, edge_type)

    def _sorted(self, graph: HeteroData, edge_type: EdgeType) -> tuple[Neighbors, Tensor | None]:
        """The senders to every node, and the places of these edges among those given."""
        source, target = edge_type[0], edge_type[2]
        col, row = as_edges(graph[edge_type].edge_index.cpu())
        check_ids(f"edge_index[0] of {edge_type}", col, self.num_nodes[source])
        check_ids(f"edge_index[1] of {edge_type}", row, self.num_nodes[target])
        order = None
        if bool((row[1:] < row[:-1]).any()):
            row, order = torch.sort(row, stable=True)
            col = col[order]
        return Neighbors(index2ptr(row, self.num_nodes[target]), col), order

    @property
    def edge_permutation(self) -> dict[EdgeType, Tensor | None]:
        """By edge type the edge of the graph at every place that a sample names."""
        return self.permutation

    def sample_from_nodes(
        self, index: NodeSamplerInput, **_: Any
    ) -> HeteroSamplerOutput | SamplerOutput:
        """Draw the neighbourhood of nodes of a type."""
        return node_sample(index, self._sample)

    def sample_from_edges(
        self, index: EdgeSamplerInput, neg_sampling: NegativeSampling | None = None
    ) -> HeteroSamplerOutput | SamplerOutput:
        """Draw the neighbourhood of the ends of edges, and of items drawn as negatives."""
        return edge_sample(index, self._sample, self.num_nodes, False, None, neg_sampling)

    def _sample(self, seed: dict[str, Tensor], _: object = None) -> HeteroSamplerOutput:
        for kind, ids in seed.items():
            check_ids(f"input nodes of {kind}", ids, self.num_nodes[kind])
            if len(ids) > len(ids.unique()):
                raise ValueError(
                    f"input nodes of {kind!r} must be distinct in a batch (got {len(ids)} with "
                    f"{len(ids) - len(ids.unique())} repetitions)"
                )
        # Workers are copies, whose generators would all draw the same.
        generator = self.generator if get_worker_info() is None else None
        found = sample_neighborhood(self.neighbors, seed, self.num_neighbors, generator=generator)
        return HeteroSamplerOutput(
            node=found.nodes,
            row={self.kinds[kind]: edges.col for kind, edges in found.edges.items()},
            col={self.kinds[kind]: edges.row for kind, edges in found.edges.items()},
            edge={self.kinds[kind]: edges.entry for kind, edges in found.edges.items()},
            num_sampled_nodes=found.num_nodes,
            num_sampled_edges={self.kinds[kind]: num for kind, num in found.num_edges.items()},
        )


def _into(graph: HeteroData, kind: str) -> EdgeType:
    types = types_between(graph, OTHER[kind], kind)
    if len(types) != 1:
        raise ValueError(
            f"'graph' must have one edge type from {OTHER[kind]!r} to {kind!r} to sample from "
            f"(got {types}): call pyg_kd.loader.sampling_graph(data)"
        )
    return types[0]
