"""The default validation: one ranking metric, averaged over users."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.metrics.ranking_metrics import hit_matrix, ranking_metrics
from pyg_kd.metrics.ranking_metrics import parse_metric as parse_metric
from pyg_kd.metrics.ranking_task import ranking_task
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference
from pyg_kd.typing import ITEM, USER


class Validation:
    r"""A full-ranking metric of a model's unseen items against validation targets.

    Hidden items and targets are worked out once, not at every call.

    Args:
        data: The training graph, from which the representations come.
        val_data: Targets in ``edge_label_index``; with an ``edge_label``, those of positive
            labels. The message edges of both graphs are hidden from the ranking.
        metric: For example ``"recall@20"``.

    Raises:
        ValueError: If the metric is unknown or its list longer than the
            catalogue, the graphs differ in size, or there are no targets.
    """

    def __init__(self, data: HeteroData, val_data: HeteroData, metric: str) -> None:
        self.metric, (self.name, self.k) = metric, parse_metric(metric)
        self.task = ranking_task(data, val_data, "val_data")
        if self.k > self.task.num_items:
            raise ValueError(f"'metric' is {metric!r}, but there are {self.task.num_items} items")

    @torch.no_grad()
    def __call__(self, model: Recommender, data: HeteroData) -> dict[str, float]:
        """The metric's mean over the users with targets, under its name."""
        x_dict = model(data)
        hits = self.task.hits(
            lambda rows, cols: model.score_block(x_dict[USER][rows], x_dict[ITEM][cols]), self.k
        )
        return {self.metric: self._mean(hits)}

    def of_teacher(self, data: HeteroData) -> float | None:
        """The metric of the lists that a graph carries; ``None`` if they don't tell it.

        They do where they are long enough, every user with targets has one, and the validation
        graph hides no more than the training graph, whose edges the lists leave out.
        """
        users, lists = self.task.users, data[USER].get("teacher_items")
        if not isinstance(lists, Tensor) or lists.dim() != 2 or lists.size(1) < self.k:
            return None
        lists, edges = trusted_lists(data)[0], interactions(data)
        if len(edges.by_user().col) < len(self.task.seen.col) or bool((lists[users, 0] < 0).any()):
            return None
        ranked = lists[users, : self.k].long()
        return self._mean(hit_matrix(users, ranked, self.task.targets, self.task.num_items))

    def weak_teacher(self, data: HeteroData, student: float) -> str | None:
        """A warning, if the lists that a graph carries are no better than the student."""
        teacher = self.of_teacher(data)
        if teacher is None or teacher > student:
            return None
        return (
            f"the teacher is no better than its student on 'val_data': {self.metric} is "
            f"{teacher:.4f} for the teacher's lists and {student:.4f} for the student. Train a "
            "better teacher, or the student without distillations"
        )

    def _mean(self, hits: Tensor) -> float:
        degree = self.task.targets.degree[self.task.users]
        values = ranking_metrics(hits, degree, (self.k,), (self.name,))
        return float(values[self.metric].mean())


def validate(
    model: Recommender, data: HeteroData, val_data: HeteroData, metric: str
) -> dict[str, float]:
    r"""Apply :class:`Validation` once, to a model in evaluation mode.

    Args:
        model: The model.
        data: The training graph.
        val_data: A graph of the same nodes with an ``edge_label_index``.
        metric: For example ``"recall@20"``.

    Raises:
        ValueError: As :class:`Validation` does.
    """
    validation = Validation(data, val_data, metric)
    with inference(model):
        return validation(model, data)
