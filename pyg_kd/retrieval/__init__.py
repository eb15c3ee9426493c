"""The inference engine: a student's tables, searched without PyTorch."""

from pyg_kd.retrieval.ids import Ids, UnknownId
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.tables import Table

__all__ = ["Ids", "Table", "TopKIndex", "UnknownId"]
