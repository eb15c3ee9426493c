"""Metrics of rankings: what they are computed from, and what can be ranked."""

from pyg_kd.metrics.ranker import Ranker
from pyg_kd.metrics.ranking_metrics import METRICS, ranking_metrics
from pyg_kd.metrics.ranking_task import Task, ranking_task

__all__ = ["METRICS", "Ranker", "Task", "ranking_metrics", "ranking_task"]
