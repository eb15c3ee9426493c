"""Validation of sharded tables: each process ranks for a part of the users."""

from __future__ import annotations

import torch
from torch import distributed as dist
from torch_geometric.data import HeteroData

from pyg_kd.metrics.ranking_metrics import parse_metric, ranking_metrics
from pyg_kd.metrics.ranking_task import ranking_task
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.typing import ITEM, USER


class ShardedValidation:
    r"""A full-ranking metric of unseen items, as :class:`~pyg_kd.training.Trainer` takes it.

    A process holds the item table and the rows of its part of the users meanwhile.

    Args:
        data: The training graph.
        val_data: Targets in ``edge_label_index``.
        metric: For example ``"recall@20"``.

    Raises:
        ValueError: If the metric is unknown or its list longer than the catalogue, the graphs
            differ in size, or there are no targets.
    """

    def __init__(self, data: HeteroData, val_data: HeteroData, metric: str) -> None:
        self.metric, (self.name, self.k) = metric, parse_metric(metric)
        task = ranking_task(data, val_data, "val_data")
        if self.k > task.num_items:
            raise ValueError(f"'metric' is {metric!r}, but there are {task.num_items} items")
        self.num_users = len(task.users)
        own = task.users.tensor_split(dist.get_world_size())[dist.get_rank()]
        self.task = task._replace(users=own)

    @torch.no_grad()
    def __call__(self, model: ShardedMF) -> dict[str, float]:
        """The metric's mean over the users with targets, under its name."""
        users = self.task.users
        x_user, x_item = model.rows(USER, users), model.whole(ITEM)
        total = torch.zeros((), dtype=torch.double, device=x_item.device)
        if len(users):
            hits = self.task.hits(
                lambda rows, cols: x_user[torch.searchsorted(users, rows)] @ x_item[cols].t(),
                self.k,
            )
            degree = self.task.targets.degree[users]
            values = ranking_metrics(hits, degree, (self.k,), (self.name,))
            total += values[self.metric].double().sum()
        dist.all_reduce(total)
        return {self.metric: float(total / self.num_users)}
