"""Models on batches of neighbour loaders."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.propagated_rows import RowReader
from pyg_kd.functional.subgraph import Subgraph, is_subgraph, padded, read_subgraph
from pyg_kd.typing import ITEM, USER, XDict


class SubgraphModel(nn.Module):
    """A module that maps a graph, or a sampled part of it, to representations of its nodes."""

    num_users: int
    num_items: int

    def __call__(self, data: HeteroData) -> XDict:
        """Apply the model to a graph, or to a batch of a neighbour loader.

        Of a batch the seeds are represented, from their rows of the tables and from what was
        sampled around them; other rows are NaN.

        Raises:
            ValueError: If a batch has no ``n_id``, a wrong one or too few hops, or the model does
                not read sampled subgraphs.
        """
        if is_subgraph(data):
            found = read_subgraph(data, {USER: self.num_users, ITEM: self.num_items})
            x_dict = self.represent_seeds(found)
            return {kind: padded(x, len(found.n_id[kind])) for kind, x in x_dict.items()}
        represented: XDict = super().__call__(data)
        return represented

    def tables_of_rows(self) -> dict[str, nn.Parameter]:
        """Embedding tables of which :meth:`represent_seeds` reads rows alone, by node type."""
        return {}

    def represent_seeds(self, subgraph: Subgraph) -> XDict:
        """Representations of the seeds of a sampled subgraph, by node type."""
        raise ValueError(
            f"{type(self).__name__} does not read sampled subgraphs: apply it to the whole graph, "
            "or give it represent_seeds(subgraph)"
        )

    def row_reader(self, data: HeteroData) -> Callable[[], RowReader] | None:
        """What computes the representations of some nodes in less time than those of all.

        By default ``None``: there is nothing to save.

        Returns:
            A function that is called after every step, and returns what then computes rows to the
            values of ``forward``.
        """
        return None
