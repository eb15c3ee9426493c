"""Whether a teacher ranks better than popularity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.graph import interactions
from pyg_kd.metrics.ranking_metrics import hit_matrix, ranking_metrics
from pyg_kd.metrics.ranking_task import ranking_task
from pyg_kd.typing import ITEM, USER

#: The longest list that is compared.
MAX_LENGTH = 20


def weakness(lists: Tensor, data: HeteroData, val_data: HeteroData) -> str | None:
    r"""Compare a teacher's lists with each user's most popular unseen items.

    Args:
        lists: The teacher's lists, int32 ``[U, K]``, padded with -1.
        data: The training graph.
        val_data: Targets in ``edge_label_index``.

    Returns:
        A warning message if the lists are no better, else ``None``.
    """
    task = ranking_task(data, val_data, "val_data")
    users = task.users[lists[task.users, 0] >= 0]
    if not len(users):
        return None
    k = min(MAX_LENGTH, lists.size(1))
    popular = popular_unseen(data, users, k)
    values = []
    for ranked in (lists[users, :k].long(), popular):
        hits = hit_matrix(users, ranked, task.targets, task.num_items)
        scores = ranking_metrics(hits, task.targets.degree[users], (k,), ("ndcg",))
        values.append(float(scores[f"ndcg@{k}"].mean()))
    if values[0] > values[1]:
        return None
    return (
        f"the teacher ranks no better than popularity on 'val_data': ndcg@{k} is {values[0]:.4f} "
        f"for its lists and {values[1]:.4f} for the most popular unseen items. Improve the "
        "teacher before distilling it"
    )


def popular_unseen(data: HeteroData, rows: Tensor, k: int, *, node_type: str = USER) -> Tensor:
    """The most popular unseen items of some users, int64 ``[n, k]``, padded with -1.

    Of items, as ``node_type`` says, the most active users that have not seen them.
    """
    edges = interactions(data)
    seen, others = edges.by_user(), edges.by_item()
    if node_type == ITEM:
        seen, others = others, seen
    degree = others.degree.double()
    ranking = rank_unseen(
        lambda rows, cols: degree[cols].expand(len(rows), -1).clone(),
        len(seen.degree),
        len(degree),
        k,
        seen=seen,
        rows=rows,
    )
    return torch.cat([block.ids for block in ranking])
