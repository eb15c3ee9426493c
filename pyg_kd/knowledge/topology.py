"""The relations that topology distillation transfers, as a NetworkX graph to draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.functional.ranking import BLOCK_ENTRIES, rank_unseen
from pyg_kd.graph import Neighbors, as_ids, interactions
from pyg_kd.knowledge.requirements import check_knowledge
from pyg_kd.typing import ITEM, USER

if TYPE_CHECKING:
    import networkx

Ids = Tensor | Sequence[int]


def topology_graph(
    data: HeteroData,
    *,
    users: Ids | None = None,
    items: Ids | None = None,
    k: int | None = 5,
    threshold: float | None = None,
    x_dict: Mapping[str, Tensor] | None = None,
    node_attrs: Sequence[str] = (),
) -> networkx.Graph:
    r"""The relations of `"Topology Distillation for Recommender System"
    <https://arxiv.org/abs/2106.08700>`_ between some users and items, as a graph to draw.

    Nodes are the pairs ``("user", id)`` and ``("item", id)``. An edge joins two nodes of any types
    if one is among the ``k`` nearest neighbours of the other by
    :math:`A_{ij} = \cos(e_i, e_j)`, the matrix that the method compares, and if this cosine is at
    least ``threshold``. The cosine is the ``weight`` of the edge. The matrix is computed in blocks
    and never stored.

    Args:
        data: A graph with ``teacher_x``, as returned by :func:`extract_knowledge`.
        users: Ids of the users, int64 ``[n]``; all by default.
        items: Ids of the items, int64 ``[n]``; all by default.
        k: How many nearest neighbours each node is joined to; :obj:`None` for all.
        threshold: The minimum cosine of an edge, from -1 to 1; :obj:`None` for no limit.
        x_dict: Representations to compare instead of the teacher's, floating point ``[N, d]``
            per node type: a student's show what was transferred.
        node_attrs: Names of attributes to copy to the nodes, such as ``raw_id``, or a ``group``
            to colour by.

    Returns:
        An undirected graph without self-loops. Each node has a ``type``, ``"user"`` or ``"item"``.

    Raises:
        ValueError: If an id is out of range or given twice, an option is out of range, knowledge
            is missing, or a representation is not finite.
        ImportError: If NetworkX is not installed.

    Example:
        >>> data = HeteroData()
        >>> data["user"].num_nodes, data["item"].num_nodes = 2, 2
        >>> data["user", "interacts", "item"].edge_index = torch.tensor([[0, 1], [0, 1]])
        >>> x_dict = {"user": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        ...           "item": torch.tensor([[2.0, 0.1], [0.3, 1.0]])}
        >>> graph = topology_graph(data, x_dict=x_dict, k=1)
        >>> sorted(graph.edges)
        [(('user', 0), ('item', 0)), (('user', 1), ('item', 1))]
    """
    import networkx

    _check_options(k, threshold)
    edges = interactions(data)
    if x_dict is None:
        check_knowledge(data, "topology_graph", ("teacher_x",))
        x_dict = {USER: data[USER].teacher_x, ITEM: data[ITEM].teacher_x}
    sizes = {USER: edges.num_users, ITEM: edges.num_items}
    chosen = {
        USER: _chosen("users", users, edges.num_users, x_dict[USER]),
        ITEM: _chosen("items", items, edges.num_items, x_dict[ITEM]),
    }
    names = [(kind, node) for kind, ids in chosen.items() for node in ids.tolist()]
    graph = networkx.Graph()
    graph.add_nodes_from((name, {"type": name[0]}) for name in names)
    for attribute in node_attrs:
        values = _attribute(data, attribute, chosen)
        networkx.set_node_attributes(graph, values, attribute)
    x = torch.cat([_unit_rows(kind, x_dict[kind], sizes[kind])[chosen[kind]] for kind in chosen])
    first, second, weight = _pairs(x, k, -1.0 if threshold is None else threshold)
    ends = zip(first.tolist(), second.tolist(), weight.tolist(), strict=True)
    graph.add_weighted_edges_from((names[i], names[j], w) for i, j, w in ends)
    return graph


def _check_options(k: int | None, threshold: float | None) -> None:
    if k is None and threshold is None:
        raise ValueError("'k' or 'threshold' must be given, or all pairs are edges (got None)")
    if k is not None:
        require_count(k=k)
    if threshold is not None and not -1 <= threshold <= 1:
        raise ValueError(f"'threshold' must lie in -1..1 (got {threshold})")


def _chosen(name: str, ids: Ids | None, size: int, x: Tensor) -> Tensor:
    if ids is None:
        return torch.arange(size, device=x.device)
    found = as_ids(name, ids, size, x.device)
    if found.unique().numel() < found.numel():
        raise ValueError(f"'{name}' must not repeat an id (got {found.tolist()})")
    return found


def _unit_rows(kind: str, x: Tensor, size: int) -> Tensor:
    if x.dim() != 2 or x.size(0) != size:
        raise ValueError(f"representations of {kind}s must be [{size}, d] (got {list(x.shape)})")
    if not x.isfinite().all():
        raise ValueError(f"representations of {kind}s must be finite")
    return torch.nn.functional.normalize(x.detach().double(), dim=1)


def _attribute(data: HeteroData, name: str, chosen: Mapping[str, Tensor]) -> dict[Any, Any]:
    values = {}
    for kind, ids in chosen.items():
        column = data[kind].get(name)
        if column is not None:
            column = column.tolist() if isinstance(column, Tensor) else column
            values.update({(kind, node): column[node] for node in ids.tolist()})
    if not values:
        raise ValueError(f"'node_attrs' must name attributes of users or items (got {name!r})")
    return values


def _pairs(x: Tensor, k: int | None, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of rows that are near, each once: the lower, the higher, and their cosine."""
    parts = [*(_near(x, threshold) if k is None else _nearest(x, k, threshold))]
    row, col, cosine = (torch.cat(part) for part in zip(*parts, strict=True))
    low, high = torch.minimum(row, col), torch.maximum(row, col)
    key, place = (low * len(x) + high).unique(return_inverse=True)
    weight = cosine.new_empty(key.numel()).scatter_(0, place, cosine)
    return key.div(len(x), rounding_mode="floor"), key.remainder(len(x)), weight.clamp(-1, 1)


def _near(x: Tensor, threshold: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    block = max(1, BLOCK_ENTRIES // max(len(x), 1))
    for start in range(0, max(len(x), 1), block):
        cosine = x[start : start + block] @ x[start:].t()
        row, col = (cosine >= threshold).triu(1).nonzero(as_tuple=True)
        yield row + start, col + start, cosine[row, col]


def _nearest(x: Tensor, k: int, threshold: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    if len(x) == 0:
        yield from _near(x, threshold)
        return
    itself = torch.arange(len(x) + 1, device=x.device)
    ranked = rank_unseen(
        lambda rows, cols: x[rows] @ x[cols].t(),
        len(x),
        len(x),
        min(k, len(x)),
        seen=Neighbors(itself, itself[:-1]),
    )
    for rows, cosine, cols in ranked:
        at = ((cols >= 0) & (cosine >= threshold)).nonzero(as_tuple=True)
        yield rows[at[0]], cols[at], cosine[at]
