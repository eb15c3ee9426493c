"""The sampled protocol of older papers: a target against a few hundred unseen items."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import inf
from numbers import Integral

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.functional.ranking import BLOCK_ENTRIES, check_scores
from pyg_kd.functional.sampling import UnseenItems
from pyg_kd.graph import Neighbors, sorted_neighbors
from pyg_kd.metrics.ranker import Ranker, representations
from pyg_kd.metrics.ranking_metrics import METRICS, check_lengths, check_metrics, ranking_metrics
from pyg_kd.metrics.ranking_task import Task, ranking_task
from pyg_kd.models.inference import inference


def evaluate_sampled(
    model: Ranker,
    data: HeteroData,
    target_data: HeteroData,
    k: int | Sequence[int] = (5, 10, 20),
    metrics: Sequence[str] = METRICS,
    *,
    num_negatives: int = 499,
    seed: int = 0,
) -> dict[str, float]:
    r"""Rank each target against sampled items only, to reproduce published numbers.

    For each target, ``num_negatives`` items are drawn without replacement
    among those that are neither message edges of ``data`` or ``target_data``
    nor targets of the user; a user with fewer such items gets all of them.
    Among equal scores the lower id ranks first; a target with a score of
    ``-inf`` is never found. The mean is over targets, which in a leave-one-out
    split is the mean over users.

    Sampled metrics do not keep the order of methods: prefer
    :func:`~pyg_kd.evaluation.full_ranking.evaluate`.

    Args:
        model: As in :func:`~pyg_kd.evaluation.full_ranking.evaluate`.
        data: The training graph.
        target_data: A graph of the same nodes with an ``edge_label_index``.
        k: List lengths, at most ``num_negatives + 1`` and the size of the catalogue.
        metrics: Names out of :data:`~pyg_kd.metrics.ranking_metrics.METRICS`.
        num_negatives: Items each target is ranked against.
        seed: Seed of the draw, an integer of 64 bits. The same seed draws the same
            items for every model on the same device.

    Returns:
        ``{"recall@5": ..., ...}``.

    Raises:
        ValueError: As in :func:`~pyg_kd.evaluation.full_ranking.evaluate`, or
            if ``num_negatives`` is not a positive integer or ``seed`` is out of range.
        TypeError: As in :func:`~pyg_kd.evaluation.full_ranking.evaluate`, or
            if ``seed`` is not an integer.

    Warns:
        UserWarning: Always, since the values mislead when methods are compared.
    """
    require_count(num_negatives=num_negatives)
    _check_seed(seed)
    check_metrics(metrics)
    task = ranking_task(data, target_data)
    ks = check_lengths(k, min(int(num_negatives) + 1, task.num_items))
    warnings.warn(
        f"Metrics against {num_negatives} sampled items do not keep the order of methods: "
        f"use 'evaluate' to compare them",
        UserWarning,
        stacklevel=2,
    )
    with inference(model):
        x_user, x_item = representations(model, data)
        # More than the catalogue are never drawn, and would only be padding.
        num_drawn = min(int(num_negatives), task.num_items)
        rank = _target_ranks(model, x_user, x_item, task, num_drawn, int(seed))
    hits = rank.unsqueeze(1) == torch.arange(ks[-1], device=rank.device)
    values = ranking_metrics(hits, torch.ones_like(rank), ks, metrics)
    return {name: float(value.mean()) for name, value in values.items()}


def _check_seed(seed: int) -> None:
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise TypeError(f"'seed' must be an integer (got {seed!r})")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"'seed' must fit into 64 bits (got {seed})")


def _target_ranks(
    model: Ranker, x_user: Tensor, x_item: Tensor, task: Task, num_negatives: int, seed: int
) -> Tensor:
    """The place, from 0, of every target among its negatives."""
    unseen = UnseenItems(_excluded(task), task.num_items)
    index, target = task.targets.of(task.users)
    user = task.users[index]
    generator = torch.Generator(user.device).manual_seed(seed)
    block = max(1, BLOCK_ENTRIES // task.num_items)
    ranks = []
    for users, items in zip(user.split(block), target.split(block), strict=True):
        negative = unseen.sample(users, num_negatives, replace=False, generator=generator)
        items = items.unsqueeze(1)
        scores = model.score_block(x_user[users], x_item)
        check_scores(scores, len(users), len(x_item))
        if scores.isnan().any():
            raise ValueError("'model.score_block' returned a score that is NaN")
        own, other = scores.gather(1, items), scores.gather(1, negative.clamp(min=0))
        ahead = (other > own) | ((other == own) & (negative < items))
        place = (ahead & (negative >= 0)).sum(dim=1)
        ranks.append(place.masked_fill(own.squeeze(1) == -inf, task.num_items))
    return torch.cat(ranks)


def _excluded(task: Task) -> Neighbors:
    """Seen items and targets of every user together."""
    row = torch.cat([task.seen.row, task.targets.row])
    col = torch.cat([task.seen.col, task.targets.col])
    return sorted_neighbors(row, col, task.num_users, task.num_items)
