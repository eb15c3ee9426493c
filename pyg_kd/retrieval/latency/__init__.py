"""How long a list takes: teacher beside student, stage by stage, on pinned threads."""

from pyg_kd.retrieval.latency.figure import plot_tradeoff
from pyg_kd.retrieval.latency.measure import measure_latency
from pyg_kd.retrieval.latency.pinning import Pinning, pinned
from pyg_kd.retrieval.latency.propagation import Propagation, propagation_seconds
from pyg_kd.retrieval.latency.recall import recall_at
from pyg_kd.retrieval.latency.report import LatencyReport, LatencyRow

__all__ = [
    "LatencyReport",
    "LatencyRow",
    "Pinning",
    "Propagation",
    "measure_latency",
    "pinned",
    "plot_tradeoff",
    "propagation_seconds",
    "recall_at",
]
