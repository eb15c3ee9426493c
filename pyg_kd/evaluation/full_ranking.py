"""The default protocol: every unseen item is ranked for every user with targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, overload

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.metrics.ranker import Ranker, representations
from pyg_kd.metrics.ranking_metrics import METRICS, check_lengths, check_metrics, ranking_metrics
from pyg_kd.metrics.ranking_task import ranking_task
from pyg_kd.models.inference import inference
from pyg_kd.progress import Progress


class PerUser(NamedTuple):
    """Metrics of every user.

    Args:
        mean: The mean of each metric over the users.
        values: Each metric, float64, shape ``[n]``.
        user: The users with targets, ascending, int64, shape ``[n]``.
    """

    mean: dict[str, float]
    values: dict[str, Tensor]
    user: Tensor


@overload
def evaluate(
    model: Ranker,
    data: HeteroData,
    target_data: HeteroData,
    k: int | Sequence[int] = ...,
    metrics: Sequence[str] = ...,
    *,
    per_user: Literal[False] = ...,
    batch_size: int | None = ...,
    progress: bool = ...,
) -> dict[str, float]: ...
@overload
def evaluate(
    model: Ranker,
    data: HeteroData,
    target_data: HeteroData,
    k: int | Sequence[int] = ...,
    metrics: Sequence[str] = ...,
    *,
    per_user: Literal[True],
    batch_size: int | None = ...,
    progress: bool = ...,
) -> PerUser: ...
def evaluate(
    model: Ranker,
    data: HeteroData,
    target_data: HeteroData,
    k: int | Sequence[int] = (10, 20, 50),
    metrics: Sequence[str] = METRICS,
    *,
    per_user: bool = False,
    batch_size: int | None = None,
    progress: bool = False,
) -> dict[str, float] | PerUser:
    r"""Rank all unseen items of every user with targets, and score the rankings.

    Representations come from ``data``. For each user the items of the message
    edges of ``data`` and of ``target_data`` are left out of the ranking; what
    is to be found are the items of ``target_data``'s ``edge_label_index``.
    Items with equal scores are ranked by id. Users without targets have no
    defined recall: they are neither ranked nor part of the mean. The values
    are those of :func:`~pyg_kd.metrics.ranking_metrics.ranking_metrics`. Memory is
    ``O(batch_size * I)``, on the device of ``data``.

    Args:
        model: A module with ``model(data) -> x_dict`` and
            ``score_block(x_user, x_item)``. It is evaluated in evaluation
            mode, and its mode is restored.
        data: The training graph.
        target_data: A graph of the same nodes with an ``edge_label_index``.
        k: List lengths.
        metrics: Names out of :data:`~pyg_kd.metrics.ranking_metrics.METRICS`.
        per_user: Return a :class:`PerUser` with the values of each user.
        batch_size: Users ranked at once. Chosen by the size of the catalogue
            by default.
        progress: Show a progress bar.

    Returns:
        ``{"recall@10": ..., "recall@20": ..., ...}``, or a :class:`PerUser`.

    Raises:
        ValueError: If the sizes or devices of the graphs and of the
            representations differ, a representation or a score is NaN, ``k``
            exceeds the catalogue, a metric is unknown, there are no targets,
            or targets are message edges too.
        TypeError: If a graph is not a ``HeteroData``, the model cannot score,
            ``k`` is not an integer, or ``metrics`` is not a list.
    """
    check_metrics(metrics)
    if batch_size is not None:
        require_count(batch_size=batch_size)
    task = ranking_task(data, target_data)
    ks = check_lengths(k, task.num_items)
    with inference(model):
        x_user, x_item = representations(model, data)
        with Progress("evaluating", task.users.numel(), unit="user", shown=progress) as bar:
            hits = task.hits(
                lambda rows, cols: model.score_block(x_user[rows], x_item[cols]),
                ks[-1],
                row_block=batch_size,
                progress=bar.update,
            )
    values = ranking_metrics(hits, task.targets.degree[task.users], ks, metrics)
    mean = {name: float(value.mean()) for name, value in values.items()}
    return PerUser(mean, values, task.users) if per_user else mean
