"""The inference engine: a student's tables, searched without PyTorch."""

from pyg_kd.retrieval.bundle import BundleError, load_student, save_index, save_student
from pyg_kd.retrieval.ids import Ids, UnknownId
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.list_rounding import tables_at
from pyg_kd.retrieval.tables import Table

__all__ = [
    "BundleError",
    "Ids",
    "Table",
    "TopKIndex",
    "UnknownId",
    "load_student",
    "save_index",
    "save_student",
    "tables_at",
]
