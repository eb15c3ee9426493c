"""The default validation: one ranking metric, averaged over users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.bipartite import check_ids, interactions, sorted_neighbors
from pyg_kd.functional.metrics import METRICS, hit_matrix, ranking_metrics
from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER


def parse_metric(metric: str) -> tuple[str, int]:
    """Split ``"recall@20"`` into ``("recall", 20)``."""
    name, _, k = metric.partition("@")
    if name not in METRICS or not k.isdecimal() or int(k) < 1:
        raise ValueError(
            f"'metric' must look like 'recall@20', with one of {METRICS} (got {metric!r})"
        )
    return name, int(k)


class Validation:
    r"""A full-ranking metric of a model's unseen items against validation targets.

    What is hidden and what is to be found is worked out once, not at every call.

    Args:
        data: The training graph, from which the representations come.
        val_data: Targets in ``edge_label_index``; where it has an
            ``edge_label``, only positive labels count. The message edges of both
            graphs are hidden from the ranking.
        metric: For example ``"recall@20"``.

    Raises:
        ValueError: If the metric is unknown or its list longer than the
            catalogue, the graphs differ in size, or there are no targets.
    """

    def __init__(self, data: HeteroData, val_data: HeteroData, metric: str) -> None:
        self.metric, (self.name, self.k) = metric, parse_metric(metric)
        graph, other = interactions(data), interactions(val_data)
        if graph[1:] != other[1:]:
            raise ValueError(
                f"'val_data' must have the nodes of 'data', {graph[1:]} users and items "
                f"(got {other[1:]})"
            )
        num_users, self.num_items = graph[1:]
        if self.k > self.num_items:
            raise ValueError(f"'metric' is {metric!r}, but there are {self.num_items} items")
        user, item = torch.cat([graph.edge_index, other.edge_index], dim=1)
        self.seen = sorted_neighbors(user, item, num_users, self.num_items)
        user, item = _targets(val_data)
        check_ids("edge_label_index[0] (users)", user, num_users)
        check_ids("edge_label_index[1] (items)", item, self.num_items)
        self.targets = sorted_neighbors(user, item, num_users, self.num_items)

    @torch.no_grad()
    def __call__(self, model: Recommender, data: HeteroData) -> dict[str, float]:
        """The metric's mean over the users with targets, under its name."""
        x_dict = model(data)
        degree = self.targets.degree
        values = []
        for block in rank_unseen(
            lambda rows, cols: model.score_block(x_dict[USER][rows], x_dict[ITEM][cols]),
            degree.numel(),
            self.num_items,
            self.k,
            seen=self.seen,
            rows=degree.nonzero().squeeze(1),
        ):
            hits = hit_matrix(block.rows, block.ids, self.targets, self.num_items)
            values.append(ranking_metrics(hits, degree[block.rows], (self.k,), (self.name,)))
        return {self.metric: float(torch.cat([value[self.metric] for value in values]).mean())}


def _targets(val_data: HeteroData) -> Tensor:
    store = val_data[val_data.edge_types[0]]
    if "edge_label_index" not in store:
        raise ValueError("'val_data' has no 'edge_label_index'")
    label: Tensor = store.edge_label_index.as_subclass(Tensor)
    if "edge_label" in store:
        label = label[:, store.edge_label > 0]
    if label.size(1) == 0:
        raise ValueError("'val_data' has no targets: its 'edge_label_index' is empty")
    return label


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
    with evaluating(model):
        return validation(model, data)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; the model's own mode comes back after."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
