"""PyG's loaders of sampled subgraphs, without a compiled extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch_geometric import loader
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_kd.edge_types import types_between
from pyg_kd.loader.neighbor_sampler import NeighborSampler
from pyg_kd.loader.sampling_graph import sampling_graph
from pyg_kd.typing import ITEM, USER, Batch


class NeighborLoader(loader.NeighborLoader):
    r"""Subgraphs around batches of users, or of items: PyG's
    :class:`~torch_geometric.loader.NeighborLoader` with this package's sampler.

    Batches have the attributes of PyG's, and ``global_degree``.

    Args:
        data: The training graph, or what :func:`~pyg_kd.loader.sampling_graph` makes of it.
        num_neighbors: Neighbours of a node in every hop, -1 for all.
        input_nodes: A node type, or a pair of it and ids.
        generator: Random state of the order and of the draws; PyTorch's global one by default.
        **options: As for PyG's loader: ``batch_size``, ``shuffle``, ``num_workers``, ...

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(num_users=20, num_items=10, num_edges=80)[0]
        >>> batch = next(iter(NeighborLoader(data, [-1], ("user", [3, 5]), batch_size=2)))
        >>> batch["user"].n_id[:2], batch["user"].num_sampled_nodes[0]
        (tensor([3, 5]), 2)
    """

    def __init__(
        self,
        data: HeteroData,
        num_neighbors: Sequence[int],
        input_nodes: str | tuple[str, Any],
        *,
        generator: Generator | None = None,
        **options: Any,
    ) -> None:
        graph = _both_ways(data)
        sampler: Any = NeighborSampler(graph, num_neighbors, generator=generator)
        super().__init__(
            graph, list(num_neighbors), input_nodes,
            neighbor_sampler=sampler, generator=generator, **options,
        )  # fmt: skip


class LinkNeighborLoader(loader.LinkNeighborLoader):
    r"""Subgraphs around batches of interactions: PyG's
    :class:`~torch_geometric.loader.LinkNeighborLoader` with this package's sampler.

    Args:
        data: The training graph, or what :func:`~pyg_kd.loader.sampling_graph` makes of it.
        num_neighbors: Neighbours of a node in every hop, -1 for all.
        edge_label_index: The interactions, int64 ``[2, n]``; all of them by default. PyG's pairs of
            an edge type and such ids will do as well.
        generator: Random state of the order and of the draws; PyTorch's global one by default.
            Negatives are drawn by PyG, from the global one.
        **options: As for PyG's loader: ``batch_size``, ``neg_sampling``, ``shuffle``, ...

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(num_users=20, num_items=10, num_edges=80)[0]
        >>> loader = LinkNeighborLoader(data, [2, 2], batch_size=32, neg_sampling="triplet")
        >>> triples(next(iter(loader))).negative.shape
        torch.Size([32])
    """

    def __init__(
        self,
        data: HeteroData,
        num_neighbors: Sequence[int],
        edge_label_index: Tensor | tuple[EdgeType, Tensor | None] | None = None,
        *,
        generator: Generator | None = None,
        **options: Any,
    ) -> None:
        graph = _both_ways(data)
        if edge_label_index is None or isinstance(edge_label_index, Tensor):
            edge_label_index = (types_between(graph, USER, ITEM)[0], edge_label_index)
        sampler: Any = NeighborSampler(graph, num_neighbors, generator=generator)
        super().__init__(
            graph, list(num_neighbors), edge_label_index,
            neighbor_sampler=sampler, generator=generator, **options,
        )  # fmt: skip


def _both_ways(data: HeteroData) -> HeteroData:
    return data if types_between(data, ITEM, USER) else sampling_graph(data)


def triples(subgraph: HeteroData) -> Batch:
    r"""The triples of a batch of a link loader, by their places in the subgraph.

    Such a batch goes with the representations of the subgraph, whose rows are in that order, into
    losses, and with both into methods, which translate it to the ids of the whole graph.

    Args:
        subgraph: A batch of a link loader with ``neg_sampling="triplet"``, or without negatives.

    Returns:
        Users, positives and negatives, int64 ``[B]``; negatives ``[B, N]`` where there are several,
        and none (``N`` is 0) without ``neg_sampling``.

    Raises:
        ValueError: If the batch names no interactions, or if its negatives are pairs of their own.
    """
    user, item = subgraph[USER], subgraph[ITEM]
    if "src_index" in user and "dst_pos_index" in item:
        return Batch(user.src_index, item.dst_pos_index, item.dst_neg_index)
    kinds = [kind for kind in types_between(subgraph, USER, ITEM)
             if "edge_label_index" in subgraph[kind]]  # fmt: skip
    if len(kinds) != 1:
        raise ValueError(
            f"'subgraph' must be a batch of a link loader from 'user' to 'item' (got {kinds}): "
            "use pyg_kd.loader.LinkNeighborLoader"
        )
    if subgraph[kinds[0]].get("edge_label") is not None:
        raise ValueError(
            "'subgraph' must have triples (got pairs with an 'edge_label'): give the loader "
            "neg_sampling='triplet'"
        )
    pairs = subgraph[kinds[0]].edge_label_index
    return Batch(pairs[0], pairs[1], torch.empty_like(pairs[0]).view(-1, 1)[:, :0])
