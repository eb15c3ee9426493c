"""What a place of a teacher's list is worth to an ensemble."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.knowledge.confidence import trusted_lists, trusted_scores
from pyg_kd.typing import ITEM, USER

How = Literal["reciprocal_rank", "borda", "score"]
HOW: tuple[str, ...] = get_args(How)


def list_worth(graph: HeteroData, how: str, constant: float) -> Tensor:
    """What each place of each list adds, ``[U, K]`` or, where all users have the same, ``[K]``."""
    lists, confidence = trusted_lists(graph)
    rank = torch.arange(lists.size(1), device=lists.device, dtype=torch.double)
    if how == "reciprocal_rank":
        worth = 1 / (constant + rank)
    elif how == "borda":
        worth = 1 - rank / lists.size(1)
    else:
        worth = _scaled(_scores(graph, lists), lists)
    return worth if confidence is None else confidence * worth


def _scores(graph: HeteroData, lists: Tensor) -> Tensor:
    """The teacher's scores of its list, ``[U, K]``."""
    if "teacher_x" in graph[USER] and getattr(graph, "teacher_inner_product", True):
        x_user, x_item = (graph[node_type].teacher_x.float() for node_type in (USER, ITEM))
        return list_scores(x_user, x_item, lists)
    if "teacher_scores" in graph[USER]:
        return trusted_scores(graph).float()
    raise ValueError(
        "how='score' takes inner products of 'teacher_x', or 'teacher_scores', which a teacher has "
        "not: use how='reciprocal_rank'"
    )


def _scaled(scores: Tensor, lists: Tensor) -> Tensor:
    """Scores from 0 for the last of each list to 1 for the first."""
    empty = lists < 0
    low = scores.masked_fill(empty, torch.inf).amin(1, keepdim=True)
    high = scores.masked_fill(empty, -torch.inf).amax(1, keepdim=True)
    span = (high - low).where(high > low, torch.ones_like(low))  # equal scores are worth nothing
    return ((scores - low) / span).masked_fill(empty, 0.0)
