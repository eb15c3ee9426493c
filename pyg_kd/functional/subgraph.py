"""Sampled subgraphs: what is read of a batch of PyG's neighbour loaders, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr

from pyg_kd.edge_types import types_between
from pyg_kd.functional.neighbor_sampling import OTHER, Neighborhood
from pyg_kd.functional.sparse import CSR
from pyg_kd.graph import Neighbors, as_edges, check_ids
from pyg_kd.typing import ITEM, USER

#: The number of neighbours of a node in the whole graph, int64 ``[N]``, as a sampling graph says.
DEGREE = "global_degree"

#: What PyG's loaders leave on the nodes of a batch.
MARKS = ("n_id", "num_sampled_nodes")


class Subgraph(NamedTuple):
    r"""A few hops around some seeds, as a model reads them.

    ``n_id`` are the global ids of the nodes by type. ``blocks`` are the messages into the nodes of
    a type, with local places, and weights by which they add up to what all of the neighbours send:
    with :math:`S_r` the sampled neighbours of :math:`r`

    .. math::
        \hat S_{rc} = \frac{|N_r|}{|S_r|} \frac{1}{\sqrt{|N_r| |N_c|}}, \qquad c \in S_r

    ``degree`` are those of the whole graph. ``within`` are the numbers of nodes by hops from the
    seeds, cumulated: ``within["user"][0]`` users come first and are seeds.
    """

    n_id: dict[str, Tensor]
    blocks: dict[str, CSR]
    degree: dict[str, Tensor]
    within: dict[str, list[int]]

    @property
    def num_hops(self) -> int:
        """The hops for which neighbours were drawn."""
        return len(self.within[USER]) - 1

    def ids(self, kind: str, num_hops: int = 0) -> Tensor:
        """The global ids of the nodes of a type up to so many hops from the seeds."""
        return self.n_id[kind][: self.within[kind][num_hops]]


def subgraph_of(found: Neighborhood, neighbors: Mapping[str, Neighbors]) -> Subgraph:
    """A neighbourhood that was drawn from the neighbours of all nodes, weighted."""
    degree = {}
    for kind, nodes in found.nodes.items():
        ptr = neighbors[kind].ptr
        degree[kind] = ptr[nodes + 1] - ptr[nodes]
    edges = {kind: (edges.row, edges.col) for kind, edges in found.edges.items()}
    return _weighted(found.nodes, edges, degree, found.num_nodes)


def _weighted(
    nodes: dict[str, Tensor],
    edges: Mapping[str, tuple[Tensor, Tensor]],
    degree: dict[str, Tensor],
    num_nodes: Mapping[str, list[int]],
) -> Subgraph:
    inverse = {kind: of.to(torch.float).rsqrt() for kind, of in degree.items()}
    blocks = {}
    for kind, (row, col) in edges.items():
        ptr = index2ptr(row, len(nodes[kind])).to(torch.int32)
        # Exactly 1 where all neighbours are there; nodes without any have an infinite factor that
        # is never read.
        left = inverse[kind] * (degree[kind] / ptr.diff())
        value = left[row] * inverse[OTHER[kind]][col]
        blocks[kind] = CSR(ptr, col.to(torch.int32), value)
    within = {
        kind: torch.tensor(num_nodes[kind], device="cpu").cumsum(0).tolist() for kind in nodes
    }
    return Subgraph(nodes, blocks, degree, within)


def is_subgraph(data: HeteroData) -> bool:
    """Whether a graph is a batch of a neighbour loader: some of the nodes of another graph."""
    return isinstance(data, HeteroData) and any(
        mark in data[kind] for kind in (USER, ITEM) if kind in data.node_types for mark in MARKS
    )


def read_subgraph(data: HeteroData, sizes: Mapping[str, int]) -> Subgraph:
    r"""Read a batch of a neighbour loader.

    Args:
        data: The batch.
        sizes: Nodes of the whole graph by type.

    Raises:
        ValueError: If a type has no ``n_id``, or one with repeated ids, ids out of range or of
            another number than its nodes; if hops, global degrees or one direction of the edges
            are missing; or if edges are not what hops have drawn.
    """
    nodes = {kind: _n_id(data, kind, size) for kind, size in sizes.items()}
    hops = {kind: _hops(data, kind) for kind in sizes}
    degree = {kind: _degree(data, kind) for kind in sizes}
    edges = {kind: _messages(data, kind) for kind in sizes}
    subgraph = _weighted(nodes, edges, degree, hops)
    for kind in sizes:
        _check_drawn(kind, subgraph, degree[kind])
    return subgraph


def read_seeds(data: HeteroData, degree: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""The global ids of the seeds of a batch, by type, whose rows come first.

    Args:
        data: The batch.
        degree: The degrees of the whole graph, by type, that those of the batch must be of.

    Raises:
        ValueError: If ids or hops are missing or wrong, or the nodes are not of this graph.
    """
    found = {}
    for kind, of in degree.items():
        n_id, hops, own = _n_id(data, kind, len(of)), _hops(data, kind), _degree(data, kind)
        wrong = (own != of[n_id]).nonzero()
        if len(wrong):
            place = int(wrong[0])
            raise ValueError(
                f"node {int(n_id[place])} of {kind!r} has {int(of[n_id[place]])} edges in the "
                f"whole graph and {int(own[place])} by data[{kind!r}].{DEGREE}: 'n_id' is wrong, "
                "or the subgraph is of another graph"
            )
        found[kind] = n_id[: hops[0]]
    return found


def _n_id(data: HeteroData, kind: str, size: int) -> Tensor:
    found, name = data[kind].get("n_id"), f"data[{kind!r}].n_id"
    if not isinstance(found, Tensor):
        raise ValueError(
            f"'{name}' is missing: a sampled subgraph needs the global id of each of its nodes, "
            "as the loaders of PyG and of pyg_kd.loader give it"
        )
    num = data[kind].num_nodes
    if found.dtype not in (torch.int32, torch.int64) or found.shape != (num,):
        raise ValueError(
            f"'{name}' must be int64 of shape [{num}], one global id a node "
            f"(got {found.dtype} of shape {list(found.shape)})"
        )
    found = found.long()
    check_ids(name, found, size)
    if int(torch.bincount(found, minlength=1).max()) > 1:
        raise ValueError(
            f"'{name}' must not repeat an id (got {int(torch.bincount(found).argmax())} more than "
            "once): a loader with disjoint=True makes a copy of a node for every seed"
        )
    return found


def _hops(data: HeteroData, kind: str) -> list[int]:
    found = data[kind].get("num_sampled_nodes")
    name, num = f"data[{kind!r}].num_sampled_nodes", data[kind].num_nodes
    if found is None:
        raise ValueError(
            f"'{name}' is missing, which tells seeds from their neighbours: sample with "
            "subgraph_type='directional', by pyg_kd.loader or by PyG with pyg-lib"
        )
    counts = [int(n) for n in found]
    if min(counts, default=-1) < 0 or sum(counts) != num:
        raise ValueError(f"'{name}' must add up to the {num} nodes (got {counts})")
    return counts


def _degree(data: HeteroData, kind: str) -> Tensor:
    found, name = data[kind].get(DEGREE), f"data[{kind!r}].{DEGREE}"
    if not isinstance(found, Tensor) or found.shape != (data[kind].num_nodes,):
        raise ValueError(
            f"'{name}' is missing, the degrees in the whole graph: sample from "
            "pyg_kd.loader.sampling_graph(data)"
        )
    return found


def _messages(data: HeteroData, kind: str) -> tuple[Tensor, Tensor]:
    """The edges into the nodes of a type, ascending by these: their places and the senders'."""
    types = types_between(data, OTHER[kind], kind)
    if len(types) != 1:
        raise ValueError(
            f"a sampled subgraph needs one edge type from {OTHER[kind]!r} to {kind!r} "
            f"(got {types}): sample from pyg_kd.loader.sampling_graph(data)"
        )
    col, row = as_edges(data[types[0]].get("edge_index"), f"edge_index of {types[0]}")
    check_ids(f"edge_index[0] of {types[0]}", col, int(data[OTHER[kind]].num_nodes or 0))
    check_ids(f"edge_index[1] of {types[0]}", row, int(data[kind].num_nodes or 0))
    if bool((row[1:] < row[:-1]).any()):
        row, order = torch.sort(row, stable=True)
        col = col[order]
    return row, col


def _check_drawn(kind: str, subgraph: Subgraph, degree: Tensor) -> None:
    """All nodes but those of the last hop have neighbours, if any, and no more than they have."""
    drawn, within = subgraph.blocks[kind].ptr.diff(), subgraph.within[kind]
    expanded = within[-2] if len(within) > 1 else 0
    missing = (drawn[:expanded] == 0) & (degree[:expanded] > 0)
    if bool(missing.any()) or bool(drawn[expanded:].any()):
        raise ValueError(
            f"edges into {kind!r} are not what the hops have drawn, as data[{kind!r}]."
            "num_sampled_nodes tells: sample with subgraph_type='directional' from "
            "pyg_kd.loader.sampling_graph(data)"
        )
    if bool((drawn > degree).any()):
        place = int((drawn > degree).nonzero()[0])
        raise ValueError(
            f"node {int(subgraph.n_id[kind][place])} of {kind!r} has {int(drawn[place])} edges in "
            f"the subgraph and {int(degree[place])} in the whole graph: 'n_id' or {DEGREE!r} is "
            "wrong, or neighbours were drawn with replacement"
        )


def require_hops(subgraph: Subgraph, num_layers: int) -> None:
    """Raise ``ValueError`` unless neighbours were drawn for every layer of a model."""
    if subgraph.num_hops < num_layers:
        raise ValueError(
            f"the model has {num_layers} layers, but 'num_neighbors' drew neighbours for "
            f"{subgraph.num_hops} hops: give a fan-out for each layer"
        )


def places_of(ids: Tensor, size: int) -> Tensor:
    """Where each of ``size`` nodes stands in ``ids``, int32, -1 for nowhere."""
    place = torch.full((size,), -1, dtype=torch.int32, device=ids.device)
    place[ids] = torch.arange(len(ids), dtype=torch.int32, device=ids.device)
    return place


def padded(x: Tensor, num: int) -> Tensor:
    """Rows of NaN below ``x``, ``num`` rows in all: nodes that are no seeds are not represented."""
    if len(x) == num:
        return x
    return torch.cat([x, x.new_full((num - len(x), *x.shape[1:]), torch.nan)])
