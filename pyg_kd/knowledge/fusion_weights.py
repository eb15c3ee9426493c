"""Weights of the teachers of an ensemble, chosen on validation targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_kd.metrics.ranking_metrics import parse_metric, ranking_metrics
from pyg_kd.metrics.ranking_task import Task

#: Entries of lists that are sorted at once.
ENTRIES = 2**21

#: By how many times lists are longer than those of the metric where weights are chosen.
DEPTH = 10

#: Weights that are tried for a further teacher, the first one having 1.
WEIGHTS = (0.25, 0.5, 1.0, 2.0)

Weights = tuple[float, ...]


def choose_weights(lists: list[Tensor], worth: list[Tensor], task: Task, metric: str) -> Weights:
    """The best teacher, and further ones as long as one of :data:`WEIGHTS` helps.

    Args:
        lists: Every teacher's lists, ``[U, K_m]``, padded with -1.
        worth: What a place adds, ``[U, K_m]`` or ``[K_m]``.
        task: The validation targets.
        metric: The metric, like ``"recall@20"``, of which the first ``10 k`` places decide.

    Returns:
        A weight of each teacher, 0 for those that do not help.
    """
    count = len(lists)
    # What comes later hardly moves the first k places, and most of the time goes there.
    depth = DEPTH * parse_metric(metric)[1]
    cut = [found[:, :depth] for found in lists], [value[..., :depth] for value in worth]
    trials: list[Weights] = [tuple(float(m == one) for m in range(count)) for one in range(count)]
    best, weights = -1.0, trials[0]
    while trials:
        values = values_of(trials, *cut, task, metric)
        if max(values) <= best:
            break
        best = max(values)
        weights = trials[values.index(best)]
        trials = [
            (*weights[:m], weight, *weights[m + 1 :])
            for m in range(count)
            if not weights[m]
            for weight in WEIGHTS
        ]
    return weights


def values_of(
    trials: Sequence[Weights], lists: list[Tensor], worth: list[Tensor], task: Task, metric: str
) -> list[float]:
    """The metric of the fused lists under each of several weights.

    Lists are sorted by item once for all trials, and only the places of the targets are found: a
    list is not ranked in full to tell where it has its targets.
    """
    name, k = parse_metric(metric)
    width = sum(found.size(1) for found in lists)
    sums = [0.0] * len(trials)
    for users in task.users.split(max(ENTRIES // (width * len(lists)), 1)):
        merged = _merge(lists, worth, task, users)
        degree = task.targets.degree[users]
        for place, weights in enumerate(trials):
            hits = merged.hits(torch.tensor(weights, dtype=torch.double, device=users.device), k)
            found = ranking_metrics(hits, degree, (k,), (name,))[metric]
            sums[place] += float(found.sum())
    return [total / len(task.users) for total in sums]


class _Merged(NamedTuple):
    """The items on any list of each of ``n`` users, ``W`` at most, beside the users' targets.

    Args:
        worth: What each list adds to an item before it is weighted, float64 ``[n, W, M]``.
        place: Where each list has the item, by rank, then by list, int64 ``[n, W, M]``:
            :data:`_LAST` where it is not on the list.
        row: The row of each target that is on a list, ``[T]``.
        column: Its column, ``[T]``.
    """

    worth: Tensor
    place: Tensor
    row: Tensor
    column: Tensor

    def hits(self, weights: Tensor, k: int) -> Tensor:
        """Which of the first ``k`` places of the weighted lists hold targets, ``[n, k]``."""
        total, used = self.worth @ weights, weights > 0
        total, own = total[self.row], total[self.row, self.column, None]
        rank = (total > own).sum(1)
        mine = self.place[self.row, self.column][:, used].amin(1)
        # Ties go to the best place on a list that has a weight. Few matter.
        matters = (rank < k) & (mine < _LAST)
        tied = (((total == own).sum(1) > 1) & matters).nonzero().squeeze(1)
        first = self.place[self.row[tied]][..., used].amin(2)
        rank[tied] += ((total[tied] == own[tied]) & (first < mine[tied, None])).sum(1)
        hits = torch.zeros(len(self.worth), k, dtype=torch.bool, device=rank.device)
        found = (rank < k) & (mine < _LAST)
        hits[self.row[found], rank[found]] = True
        return hits


#: Behind all places of a list.
_LAST = torch.iinfo(torch.int64).max


def _merge(lists: list[Tensor], worth: list[Tensor], task: Task, users: Tensor) -> _Merged:
    """The lists of some users, item by item."""
    items = torch.cat([found[users] for found in lists], 1)
    value = torch.cat([w.expand(len(task.targets.degree), -1)[users] for w in worth], 1)
    number = torch.arange(len(lists), device=items.device)
    lengths = torch.tensor([found.size(1) for found in lists], device=items.device)
    of_list = number.repeat_interleave(lengths)
    rank = torch.cat([torch.arange(found.size(1), device=items.device) for found in lists])
    items, order = items.sort(dim=1)
    new = torch.ones_like(items, dtype=torch.bool)
    new[:, 1:] = items[:, 1:] != items[:, :-1]
    column = new.cumsum(1) - 1  # of the distinct items of a row
    shape = (len(users), int(column.max()) + 1, len(lists))
    at, listed = column * len(lists) + of_list[order], items >= 0
    row = torch.arange(len(users), device=items.device)[:, None].expand_as(at)
    merged = torch.zeros(shape, dtype=torch.double, device=items.device)
    place = torch.full(shape, _LAST, device=items.device)
    merged.view(len(users), -1)[row[listed], at[listed]] = value.gather(1, order)[listed].double()
    ties = rank * len(lists) + of_list
    place.view(len(users), -1)[row[listed], at[listed]] = ties[order][listed]
    row, target = task.targets.of(users)
    target = target.to(items.dtype)[:, None]
    found = torch.searchsorted(items[row], target).clamp_(max=items.size(1) - 1)
    listed = (items[row].gather(1, found) == target).squeeze(1)
    return _Merged(merged, place, row[listed], column[row].gather(1, found)[listed].squeeze(1))
