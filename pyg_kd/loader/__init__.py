"""Interactions -> batches, on the device of the graph; and PyG's subgraphs around them."""

from pyg_kd.loader.interaction_loader import InteractionLoader
from pyg_kd.loader.neighbor_loader import LinkNeighborLoader, NeighborLoader, triples
from pyg_kd.loader.neighbor_sampler import NeighborSampler
from pyg_kd.loader.sampling_graph import sampling_graph

__all__ = [
    "InteractionLoader",
    "LinkNeighborLoader",
    "NeighborLoader",
    "NeighborSampler",
    "sampling_graph",
    "triples",
]
