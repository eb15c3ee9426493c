"""Evidence: studies that rerun, ablations, refresh policies and simulated experiments."""

from pyg_kd.study.records import Record
from pyg_kd.study.report import summary, write_report
from pyg_kd.study.results import Results

__all__ = [
    "Record",
    "Results",
    "summary",
    "write_report",
]
