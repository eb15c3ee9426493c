"""The input rows and first layer shared by autoencoders of users and of items."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.sparse import CSR, row_matmul
from pyg_kd.graph import interactions
from pyg_kd.models.layers import dropout
from pyg_kd.typing import USER


class Rows(NamedTuple):
    """The interactions of every user, or of every item.

    Args:
        unit: The rows scaled to unit length; empty ones stay empty.
        observed: The same rows with ones as entries.
    """

    unit: CSR
    observed: CSR

    @classmethod
    def of(cls, data: HeteroData, node_type: str) -> Rows:
        """The rows of one node type; repeated edges count once."""
        edges = interactions(data)
        rows = edges.by_user() if node_type == USER else edges.by_item()
        unit = CSR.of(rows, torch.repeat_interleave(rows.degree.float().rsqrt(), rows.degree))
        return cls(unit, unit._replace(value=torch.ones_like(unit.value)))

    def layer(self, index: Tensor, table: Tensor, p: float = 0.0) -> Tensor:
        """Products of the rows ``index`` with a table, ``[B, d]``.

        Entries are dropped with probability ``p`` and the rest scaled by ``1 / (1 - p)``.
        """
        # Drawing dropout for every edge is cheaper than first finding the edges of these rows.
        unit = self.unit._replace(value=dropout(self.unit.value, p))
        return row_matmul(unit, index, table)
