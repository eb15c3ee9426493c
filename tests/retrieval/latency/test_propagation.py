from __future__ import annotations

import pytest
import torch

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.graph import interactions
from pyg_kd.models import LightGCN
from pyg_kd.retrieval.latency import propagation_seconds


def _graph():
    return SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]


class Clocked(LightGCN):
    """Takes 5 seconds on a graph that is sorted already, and longer each time on a new one."""

    now, news = 0.0, 0

    def forward(self, data):
        assert not self.training and not torch.is_grad_enabled()
        known = "adjacency" in interactions(data)._made
        self.news += not known
        self.now += 5.0 if known else 10.0 * self.news
        return super().forward(data)


def test_fresh_and_cached() -> None:
    graph = _graph()
    edges, keys = graph["user", "item"].edge_index, set(graph["user", "item"].keys())
    model = Clocked(graph, dim=4)
    found = propagation_seconds(model, graph, runs=3, clock=lambda: model.now)
    # The graph is new in the warm-up, then three copies of it are: 20, 30 and 40 seconds.
    assert found == (30.0, 5.0)
    assert model.training
    assert graph["user", "item"].edge_index is edges
    assert set(graph["user", "item"].keys()) == keys


def test_bad_arguments() -> None:
    graph = _graph()
    model = LightGCN(graph, dim=4)
    with pytest.raises(ValueError, match=r"'runs' must be a positive integer \(got 0\)"):
        propagation_seconds(model, graph, runs=0)
    other = SyntheticInteractions(None, num_users=21, num_items=10, num_edges=80)[0]
    with pytest.raises(ValueError):
        propagation_seconds(model, other)
