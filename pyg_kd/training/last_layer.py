"""Representations of a propagating model, whose last layer is computed for the batch alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.propagated_rows import RowReader
from pyg_kd.graph import interactions
from pyg_kd.models.base import Recommender
from pyg_kd.training.rows_on_demand import RowsOnDemand
from pyg_kd.typing import ITEM, USER, XDict

#: Share of all edges that end in a batch, up to which it takes less time than a whole layer.
MOST = 0.3


class LastLayer(RowsOnDemand):
    r"""Represents nodes as the model does, with its last layer for those that a batch reads.

    The earlier layers are computed for the whole graph. Where a term reads whole tables, or the
    batch has a large part of the edges, the model is applied as it is.

    Args:
        model: The model.
        start: Its :meth:`~pyg_kd.models.Recommender.row_reader` of the graph.
        data: The training graph.

    Example:
        >>> import torch
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.functional import gather_rows
        >>> from pyg_kd.models import LightGCN
        >>> from pyg_kd.training import BPR
        >>> data = SyntheticInteractions(num_users=20, num_items=10, num_edges=80)[0]
        >>> last = last_layer(LightGCN(data, dim=4), data)
        >>> from pyg_kd.typing import Batch
        >>> batch = Batch(*torch.tensor([[3], [1], [0]]))
        >>> x_dict = last.represent([BPR()], data, batch)
        >>> gather_rows(x_dict["user"], batch.user).shape
        torch.Size([1, 4])
    """

    def __init__(
        self, model: Recommender, start: Callable[[], RowReader], data: HeteroData
    ) -> None:
        edges = interactions(data)
        super().__init__(edges)
        self.model, self.start, self.data = model, start, data
        self.degree = {USER: edges.by_user().degree, ITEM: edges.by_item().degree}
        self.num_edges = int(self.degree[USER].sum())
        self.read: RowReader | None = None

    def tables(self, wanted: dict[str, Tensor | None]) -> XDict:
        """Tables whose rows are computed when they are read, where that takes less time."""
        if not self._few(wanted):
            return self.model(self.data)
        self.read = self.start()
        return super().tables(wanted)

    def _few(self, wanted: dict[str, Tensor | None]) -> bool:
        """Whether rows alone are wanted, and few edges end in them."""
        ends = 0
        for kind, ids in wanted.items():
            if ids is None:
                return False
            ends += int(self.degree[kind].index_select(0, ids).sum())
        return ends <= MOST * 2 * self.num_edges

    def forget(self) -> None:
        """Let go of what was computed for the last batch, the earlier layers included."""
        super().forget()
        self.read = None

    def compute(self, seeds: XDict) -> XDict:
        """Representations of distinct nodes."""
        assert self.read is not None
        return {kind: self.read(kind, ids) for kind, ids in seeds.items()}


def last_layer(model: Recommender, data: HeteroData) -> LastLayer | None:
    """What represents the nodes of a batch on a CPU, where the model computes rows by themselves.

    A GPU would wait for the sizes of what is read.
    """
    if interactions(data).edge_index.device.type != "cpu":
        return None
    start = model.row_reader(data)
    return None if start is None else LastLayer(model, start, data)
