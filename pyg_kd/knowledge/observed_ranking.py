"""The training items of every user in a model's order."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import lexsort

from pyg_kd.graph import interactions
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference

#: Training edges scored at once: a model may form a row of features for each.
CHUNK = 2**18


@torch.no_grad()
def rank_observed(model: Recommender, data: HeteroData, k: int) -> Tensor:
    r"""The first ``k`` of each user's training items by a model's score.

    Equal scores are in the order of ids, as in the ranking of unobserved items.

    Returns:
        Item ids, int32 ``[U, k]``, padded with -1.

    Raises:
        ValueError: If a score is NaN.
    """
    edges = interactions(data)
    seen = edges.by_user()
    row = seen.row
    with inference(model):
        x_dict = model(data)
        parts = torch.stack([row, seen.col]).split(CHUNK, dim=1)
        scores = torch.cat([model.score(x_dict, part) for part in parts])
    if bool(scores.isnan().any()):
        raise ValueError(f"{type(model).__name__} gives a training edge a score that is NaN")
    # The last key is the first to count. A sort by ids is what the edges have already.
    order = lexsort([-scores, row])
    place = torch.arange(len(row), device=row.device) - seen.ptr[row]
    ranked = torch.full((edges.num_users, k), -1, dtype=torch.int32, device=row.device)
    kept = place < k
    ranked[row[kept], place[kept]] = seen.col[order][kept].to(torch.int32)
    return ranked
