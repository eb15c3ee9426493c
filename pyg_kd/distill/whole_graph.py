"""Methods on sampled subgraphs: knowledge is looked up by the ids of the whole graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from typing_extensions import Self

from pyg_kd.functional.row_tables import make_row_table
from pyg_kd.functional.sampled_propagate import rows_at
from pyg_kd.functional.subgraph import is_subgraph, places_of, read_seeds
from pyg_kd.graph import check_ids, interactions
from pyg_kd.knowledge.requirements import knowledge_key
from pyg_kd.typing import ITEM, USER, Batch, XDict


class WholeGraph:
    """The graph that a method was bound to; it is not copied, nor saved, with the method."""

    def __init__(self, graph: HeteroData | None) -> None:
        self.graph = graph

    def __deepcopy__(self, _: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return WholeGraph, (None,)


class SubgraphMethod(nn.Module):
    """A method that is bound to a whole graph and takes batches of neighbour loaders as well."""

    row_wise: tuple[str, ...] = ()

    _whole = WholeGraph(None)

    #: A graph that has been checked and that nobody changes at present, if a trainer says so.
    trusted: HeteroData | None = None

    def __call__(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        r"""The loss of a batch, on the whole graph or on a subgraph of a neighbour loader.

        With a subgraph, ``x_dict`` and ``batch`` are in the order of its nodes. What the method
        reads of the student must be among its seeds; knowledge is that of the whole graph, which
        the method was bound to.

        Raises:
            RuntimeError: If the method has not been bound to the whole graph.
            ValueError: If the subgraph has no ``n_id`` or a wrong one, is of another graph, or
                lacks seeds that are read.
        """
        if graph is not self.trusted and is_subgraph(graph):
            x_dict, graph, batch = self._translated(x_dict, graph, batch)
        loss: Tensor = super().__call__(x_dict, graph, batch)
        return loss

    def _translated(
        self, x_dict: XDict, subgraph: HeteroData, batch: Batch
    ) -> tuple[XDict, HeteroData, Batch]:
        """Tables of all nodes in which the seeds have rows, the whole graph, and global ids."""
        name, graph = type(self).__name__, self._whole.graph
        if graph is None:
            raise RuntimeError(
                f"{name} must be bound to the whole graph before it sees a subgraph: call "
                ".bind(graph, dim)"
            )
        if knowledge_key(subgraph) != knowledge_key(graph):
            raise ValueError(
                f"the subgraph is not of the graph that {name} was bound to, or carries the "
                "knowledge of another teacher"
            )
        edges = interactions(graph)
        degree = {USER: edges.by_user().degree, ITEM: edges.by_item().degree}
        seeds = read_seeds(subgraph, degree)
        tables = {}
        for kind, ids in seeds.items():
            _check_rows(x_dict[kind], subgraph, kind)
            reads = name, kind
            table = row_table_of_seeds if kind in self.row_wise else table_of_seeds
            tables[kind] = table(x_dict[kind], ids, len(degree[kind]), reads)
        return tables, graph, _global(batch, subgraph)


def _check_rows(x: Tensor, subgraph: HeteroData, kind: str) -> None:
    num = subgraph[kind].num_nodes
    if x.dim() != 2 or x.size(0) != num:
        raise ValueError(
            f"'x_dict[{kind!r}]' must have one row for each of the {num} nodes of the subgraph, "
            f"[{num}, d] (got {list(x.shape)})"
        )


def _global(batch: Batch, subgraph: HeteroData) -> Batch:
    user, item = (subgraph[kind].n_id.long() for kind in (USER, ITEM))
    for name, nodes in (("user", user), ("positive", item), ("negative", item)):
        check_ids(f"batch.{name}", getattr(batch, name), len(nodes))
    return Batch(user[batch.user], item[batch.positive], item[batch.negative])


def table_of_seeds(x: Tensor, ids: Tensor, size: int, reads: tuple[str, str]) -> Tensor:
    """A table of all nodes, ``[size, d]``, each of which must be a seed."""
    place, (name, kind) = places_of(ids, size), reads
    hint = (
        f". All rows count as read since {name}.row_wise lacks {kind!r}: if it reads some of them, "
        f"add {kind!r} there and read them by pyg_kd.functional.gather_rows or list_scores"
    )
    _require_seeds(torch.arange(size, device=place.device), place, reads, hint)
    return rows_at(x, place.long())


def row_table_of_seeds(x: Tensor, ids: Tensor, size: int, reads: tuple[str, str]) -> Tensor:
    """A table of all nodes, ``[size, d]``, of which the seeds' rows can be read and no others.

    It takes no memory of its own.
    """
    place = places_of(ids, size)

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        rows = index[index >= 0].unique()
        _require_seeds(rows, place, reads)
        if not len(rows):  # padding alone, of which some row is read and not used
            return x.new_zeros(1, x.size(1)), torch.zeros_like(index)
        return rows_at(x, place[rows].long()), places_of(rows, size)[index].long().clamp(min=0)

    table = x.new_full((1, x.size(1)), torch.nan).expand(size, -1)
    make_row_table(table, read)
    return table


def _require_seeds(index: Tensor, place: Tensor, reads: tuple[str, str], hint: str = "") -> None:
    missing = index[place[index] < 0]
    if len(missing):
        name, kind = reads
        raise ValueError(
            f"{name} reads {len(missing)} {kind}s that are no seeds of the subgraph, the first is "
            f"{int(missing[0])}: sample around them too, or let Trainer(num_neighbors=...) sample "
            f"around what is read{hint}"
        )
