"""Where each target stands in its user's ranking."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.evaluation.full_ranking import PerUser
from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.metrics.ranker import Ranker, representations
from pyg_kd.metrics.ranking_metrics import check_lengths, hit_matrix, parse_metric, ranking_metrics
from pyg_kd.metrics.ranking_task import Task, ranking_task
from pyg_kd.models.inference import inference
from pyg_kd.progress import Progress


class TargetRanks(NamedTuple):
    """The places of all targets.

    Args:
        user: The user of each target, ascending, int64 ``[E]``.
        item: The target, ascending for a user, int64 ``[E]``.
        rank: Its place in the user's list, from 0, int64 ``[E]``; ``k`` where it is not listed.
        k: Length of the lists.
    """

    user: Tensor
    item: Tensor
    rank: Tensor
    k: int

    @property
    def users(self) -> Tensor:
        """The users with targets, ascending, int64 ``[n]``."""
        users: Tensor = self.user.unique()
        return users

    def hits(self) -> tuple[Tensor, Tensor]:
        """Which places of each user hold a target, bool ``[n, k]``, and its number of targets."""
        users, row, count = self.user.unique(return_inverse=True, return_counts=True)
        hits = torch.zeros(len(users), self.k, dtype=torch.bool, device=self.user.device)
        listed = self.rank < self.k
        hits[row[listed], self.rank[listed]] = True
        return hits, count

    def per_user(self, *metrics: str) -> PerUser:
        r"""Metrics of every user with targets, as :func:`~pyg_kd.evaluation.evaluate` tells them.

        Args:
            metrics: Like ``"ndcg@10"``, of lists of at most ``k`` items.

        Raises:
            ValueError: If a metric is unknown, or its list too long.
        """
        hits, count = self.hits()
        values: dict[str, Tensor] = {}
        for metric in metrics:
            name, k = parse_metric(metric)
            values |= ranking_metrics(hits, count, (k,), (name,))
        return PerUser({n: float(v.mean()) for n, v in values.items()}, values, self.users)

    def recall(self, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""The share of some targets that each user finds in its list.

        Args:
            among: Which targets count, bool ``[E]``; all by default.

        Returns:
            Recall, float64 ``[m]``, and the users with such targets, int64 ``[m]``.
        """
        user, rank = self.user, self.rank
        if among is not None:
            user, rank = user[among], rank[among]
        users, row, count = user.unique(return_inverse=True, return_counts=True)
        found = torch.zeros(len(users), dtype=torch.double, device=user.device)
        found.index_add_(0, row, (rank < self.k).double())
        return found / count, users


def target_ranks(
    model: Ranker,
    data: HeteroData,
    target_data: HeteroData,
    k: int = 20,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> TargetRanks:
    r"""Rank as :func:`~pyg_kd.evaluation.evaluate` does, and keep where each target stands.

    Memory is that of :func:`~pyg_kd.evaluation.evaluate`, and what is kept grows with the targets.

    Args:
        model: What :func:`~pyg_kd.evaluation.evaluate` takes.
        data: The training graph.
        target_data: A graph of the same nodes with an ``edge_label_index``.
        k: Length of the lists.
        batch_size: Users ranked at once. Chosen by the size of the catalogue by default.
        progress: Show a progress bar.

    Raises:
        ValueError: As :func:`~pyg_kd.evaluation.evaluate` does.
        TypeError: As :func:`~pyg_kd.evaluation.evaluate` does.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=20, num_items=15, num_edges=120)[0]
        >>> train, _, test = UserSplit(seed=0)(data)
        >>> ranks = target_ranks(MF(train, dim=4), train, test, k=5)
        >>> ranks.rank.shape == test["user", "item"].edge_label_index[0].shape
        True
    """
    task = ranking_task(data, target_data)
    (k,) = check_lengths(k, task.num_items)
    user, item = task.targets.row, task.targets.col
    rank = torch.full_like(user, k)
    with inference(model):
        x_user, x_item = representations(model, data)
        with Progress("ranking", task.users.numel(), unit="user", shown=progress) as bar:
            for block in rank_unseen(
                lambda rows, cols: model.score_block(x_user[rows], x_item[cols]),
                *(task.num_users, task.num_items, k),
                seen=task.seen,
                rows=task.users,
                row_block=batch_size,
                progress=bar.update,
            ):
                _note(rank, task, block.rows, block.ids)
    return TargetRanks(user, item, rank, k)


def _note(rank: Tensor, task: Task, rows: Tensor, ids: Tensor) -> None:
    """Write the places of a block's hits to ``rank``."""
    row, place = hit_matrix(rows, ids, task.targets, task.num_items).nonzero(as_tuple=True)
    # Targets are sorted by user, then item, so a pair's entry is found by bisection.
    keys = task.targets.row * task.num_items + task.targets.col
    rank[torch.searchsorted(keys, rows[row] * task.num_items + ids[row, place])] = place
