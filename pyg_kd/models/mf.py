"""Matrix factorisation."""

from __future__ import annotations

from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.sampled_propagate import rows_at
from pyg_kd.functional.subgraph import Subgraph
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER, XDict


class MF(Recommender):
    r"""Matrix factorisation of `"BPR: Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_, whose representations are the embeddings themselves.

    .. math::
        s_{ui} = \langle e_u, e_i \rangle

    Args:
        data: The training graph.
        dim: Width of the embeddings.
        init_std: Standard deviation of the initial embeddings.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> MF(data, dim=4)(data)["user"].shape
        torch.Size([20, 4])
    """

    def __init__(self, data: HeteroData, dim: int, init_std: float = 0.01) -> None:
        super().__init__(data, dim, init_std)

    def forward(self, data: HeteroData) -> XDict:
        """The embedding tables."""
        self.check_data(data)
        return {USER: self.user_embedding, ITEM: self.item_embedding}

    def tables_of_rows(self) -> dict[str, nn.Parameter]:
        """The embeddings."""
        return {USER: self.user_embedding, ITEM: self.item_embedding}

    def represent_seeds(self, subgraph: Subgraph) -> XDict:
        """The rows of the seeds."""
        tables = self.tables_of_rows()
        return {kind: rows_at(table, subgraph.ids(kind)) for kind, table in tables.items()}


Recommender.embedding_class = MF
