"""How long a request takes, for a column of a report."""

from __future__ import annotations

from torch_geometric.data import HeteroData

from pyg_kd.models import Recommender
from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.latency import measure_latency

REQUESTS, LENGTH = 400, 20


def request_milliseconds(model: Recommender, data: HeteroData) -> float:
    """The median of requests of one user for 20 items, float32, one thread, in milliseconds.

    Args:
        model: A model whose score is an inner product.
        data: The training graph.
    """
    index = TopKIndex.from_model(model, data)
    length = min(LENGTH, int(data["item"].num_nodes))
    report = measure_latency(index, k=length, bulk=0, requests=REQUESTS, warmup=50)
    return float(report.row("student").p50)
