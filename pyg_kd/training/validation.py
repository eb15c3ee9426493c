"""The default validation: one ranking metric, averaged over users."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from pyg_kd.functional.bipartite import interactions, sorted_neighbors
from pyg_kd.functional.metrics import hit_matrix, ranking_metrics
from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER


def parse_metric(metric: str) -> tuple[str, int]:
    """Split ``"recall@20"`` into ``("recall", 20)``."""
    name, _, k = metric.partition("@")
    if not k.isdigit() or int(k) < 1:
        raise ValueError(f"'metric' must look like 'recall@20' (got {metric!r})")
    return name, int(k)


@torch.no_grad()
def validate(
    model: Recommender, data: HeteroData, val_data: HeteroData, metric: str
) -> dict[str, float]:
    r"""Full-ranking metric of a model's unseen items against validation targets.

    Args:
        model: The model.
        data: The training graph, from which the representations come.
        val_data: Targets in ``edge_label_index``; its ``edge_index`` is masked.
        metric: For example ``"recall@20"``.
    """
    name, k = parse_metric(metric)
    (user, item), num_users, num_items = interactions(val_data)
    seen = sorted_neighbors(user, item, num_users, num_items)
    user, item = val_data[USER, ITEM].edge_label_index
    targets = sorted_neighbors(user, item, num_users, num_items)
    x_dict = model(data)
    values = []
    for block in rank_unseen(
        lambda rows, cols: model.score_block(x_dict[USER][rows], x_dict[ITEM][cols]),
        num_users,
        num_items,
        min(k, num_items),
        seen=seen,
        rows=targets.degree.nonzero().squeeze(1),
    ):
        hits = hit_matrix(block.rows, block.ids, targets, num_items)
        degree = targets.degree[block.rows]
        values.append(ranking_metrics(hits, degree, (k,), (name,))[metric])
    return {metric: float(torch.cat(values).mean())}
