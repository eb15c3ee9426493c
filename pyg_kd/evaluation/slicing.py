"""Where a student keeps what its teacher knows: metrics by groups of users and of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.evaluation.full_ranking import PerUser
from pyg_kd.evaluation.slice_groups import (
    Groups,
    activity_groups,
    check_groups,
    popularity_groups,
)
from pyg_kd.evaluation.slice_table import ALL, SliceTable, make_slice
from pyg_kd.evaluation.target_ranks import TargetRanks, target_ranks
from pyg_kd.metrics.ranker import Ranker
from pyg_kd.metrics.ranking_metrics import parse_metric
from pyg_kd.typing import ITEM, USER

#: A model, or the models of several seeds.
Models = Ranker | Sequence[Ranker]


def slices(
    model: Models,
    data: HeteroData,
    target_data: HeteroData,
    *,
    reference: Models | None = None,
    metric: str = "recall@20",
    groups: Mapping[str, Groups] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> dict[str, SliceTable]:
    r"""Metrics of a student by groups of users and of items, beside its teacher's.

    A user belongs to one group, and its metric counts there. Items are sliced by *targets*: the
    recall of a group of items is the share of a user's targets from this group that its list
    holds, averaged over the users who have one. Each model ranks once.

    Args:
        model: The student; of several seeds, a list of them: a user's mean is taken.
        data: The training graph.
        target_data: A graph of the same nodes with an ``edge_label_index``.
        reference: The teacher, for retention :math:`= \mathrm{student} / \mathrm{teacher}`, or
            the student alone, for the gain.
        metric: The metric of users, like ``"ndcg@20"``; targets always have recall at this length.
        groups: Groups by title, like ``{"mine": Groups("user", names, of)}``. By default the
            ``"activity"`` of users in four parts, and the ``"popularity"`` of targets.
        batch_size: Users ranked at once. Chosen by the size of the catalogue by default.
        progress: Show a progress bar for each model.

    Returns:
        A table for each grouping.

    Raises:
        ValueError: As :func:`~pyg_kd.evaluation.evaluate` does, or if a group does not fit.
        TypeError: As :func:`~pyg_kd.evaluation.evaluate` does, or if ``groups`` is no such mapping.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import EASE, MF
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=200, num_items=80, num_edges=3_000)[0]
        >>> train, _, test = UserSplit(seed=0)(data)
        >>> tables = slices(MF(train, dim=4), train, test, reference=EASE(train))
        >>> [row.name for row in tables["popularity"]]
        ['all', 'head', 'middle', 'tail']
        >>> print(tables["activity"])  # doctest: +SKIP
        activity   users  recall@20             95 %  reference  retention            95 %
        all          200     0.2436  0.2007..0.2865     0.5713      0.426  0.350..0.505
    """
    _, k = parse_metric(metric)
    if groups is None:
        groups = {"activity": activity_groups(data), "popularity": popularity_groups(data)}
    _check_groups(groups, data)
    options: dict[str, Any] = {"k": k, "batch_size": batch_size, "progress": progress}
    found = [target_ranks(one, data, target_data, **options) for one in _listed(model)]
    others = None
    if reference is not None:
        others = [target_ranks(one, data, target_data, **options) for one in _listed(reference)]
    return {
        title: slice_users(
            [ranks.per_user(metric) for ranks in found],
            group,
            reference=None if others is None else [ranks.per_user(metric) for ranks in others],
            metric=metric,
            title=title,
        )
        if group.node_type == USER
        else slice_targets(found, group, reference=others, title=title)
        for title, group in groups.items()
    }


def slice_users(
    result: PerUser | Sequence[PerUser],
    groups: Groups,
    *,
    reference: PerUser | Sequence[PerUser] | None = None,
    metric: str | None = None,
    title: str = "group",
) -> SliceTable:
    r"""A metric of every user, by groups of users.

    Args:
        result: What ``evaluate(..., per_user=True)`` returned; of several seeds, a list.
        groups: Groups of users.
        reference: The same of the teacher, or of whatever ``result`` is compared with.
        metric: Which metric, where several were evaluated.
        title: What the groups are.

    Raises:
        TypeError: If ``result`` or ``groups`` is something else.
        ValueError: If users differ, ``metric`` was not evaluated, or groups are of items.
    """
    check_groups("groups", groups)
    if groups.node_type != USER:
        raise ValueError(f"'groups' must be of users (got groups of {groups.node_type!r})")
    name, values, user = _mean_of(result, metric)
    other = None
    if reference is not None:
        _, other, users = _mean_of(reference, name)
        if not torch.equal(users, user):
            raise ValueError("'reference' must be of the users of 'result' (got others)")
    of = groups.of[user].cpu().numpy()
    rows = [make_slice(ALL, values, other)]
    for g, group in enumerate(groups.names):
        inside = of == g
        rows.append(make_slice(group, values[inside], None if other is None else other[inside]))
    return SliceTable(title, name, tuple(rows))


def slice_targets(
    result: TargetRanks | Sequence[TargetRanks],
    groups: Groups,
    *,
    reference: TargetRanks | Sequence[TargetRanks] | None = None,
    title: str = "group",
) -> SliceTable:
    r"""Recall of targets, by groups of items, or by groups of users.

    Args:
        result: What :func:`~pyg_kd.evaluation.target_ranks` returned; of several seeds, a list.
        groups: Groups of items or of users.
        reference: The same of the teacher.
        title: What the groups are.

    Raises:
        TypeError: If ``groups`` are something else.
        ValueError: If the targets or the lengths of the lists differ.
    """
    check_groups("groups", groups)
    runs = list(_listed(result))
    others = None if reference is None else list(_listed(reference))
    for run in [*runs, *(others or [])]:
        if run.k != runs[0].k or not torch.equal(run.item, runs[0].item):
            raise ValueError("all runs must have the same targets and lists of one length")
    of = groups.of[runs[0].item if groups.node_type == ITEM else runs[0].user]
    rows = []
    for g, name in enumerate((ALL, *groups.names)):
        among = None if g == 0 else of == g - 1
        values = _mean_recall(runs, among)
        rows.append(
            make_slice(name, values, None if others is None else _mean_recall(others, among))
        )
    return SliceTable(title, f"recall@{runs[0].k}", tuple(rows))


def _mean_recall(runs: Sequence[TargetRanks], among: Tensor | None) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.mean(
        [run.recall(among)[0].cpu().numpy() for run in runs], axis=0
    )
    return found


def _mean_of(
    result: PerUser | Sequence[PerUser], metric: str | None
) -> tuple[str, NDArray[np.float64], Tensor]:
    """The name of a metric, its mean over the seeds ``[n]``, and the users."""
    runs = [result] if isinstance(result, PerUser) else list(result)
    if not runs or not all(isinstance(run, PerUser) for run in runs):
        raise TypeError(
            "'result' must be what evaluate(..., per_user=True) returns, or a list of these "
            f"(got {type(result).__name__})"
        )
    names = list(runs[0].values)
    name = names[0] if metric is None and len(names) == 1 else metric
    if name is None or any(name not in run.values for run in runs):
        raise ValueError(f"'metric' must be one of {names} (got {metric!r})")
    if any(not torch.equal(run.user, runs[0].user) for run in runs):
        raise ValueError("all seeds of 'result' must be of the same users (got others)")
    values = np.mean([run.values[name].detach().cpu().double().numpy() for run in runs], axis=0)
    return name, values, runs[0].user


def _listed(given: Any) -> Sequence[Any]:
    one = isinstance(given, (TargetRanks, PerUser)) or not isinstance(given, Sequence)
    return [given] if one else given


def _check_groups(groups: object, data: HeteroData) -> None:
    if not isinstance(groups, Mapping):
        raise TypeError(
            "'groups' must be a dictionary of Groups by title, like {'mine': Groups(...)} "
            f"(got {type(groups).__name__})"
        )
    for title, group in groups.items():
        check_groups(title, group)
        size = data[group.node_type].num_nodes
        if group.of.shape != (size,):
            raise ValueError(
                f"{title!r} must have a group for each of {size} nodes of {group.node_type!r} "
                f"(got {list(group.of.shape)})"
            )
