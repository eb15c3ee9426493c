"""Several teachers' lists fused into one, as the knowledge of an ensemble."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_choice, require_count, require_positive
from pyg_kd.functional.ranks import merge_scored_lists
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.extraction import extract_knowledge
from pyg_kd.knowledge.fusion_weights import choose_weights
from pyg_kd.knowledge.requirements import check_knowledge, graph_fingerprint, name_source
from pyg_kd.knowledge.worth import HOW, How, list_worth
from pyg_kd.metrics.ranking_task import ranking_task
from pyg_kd.models.base import Recommender
from pyg_kd.typing import USER

#: Entries of lists merged at once.
ENTRIES = 2**21

#: The least value whose logarithm is a score: what adds nothing to a list has no logarithm.
SMALLEST = 1e-30


def fuse(
    teachers: Sequence[HeteroData | Recommender],
    weights: Sequence[float] | None = None,
    *,
    how: How = "reciprocal_rank",
    constant: float = 20.0,
    num_items: int | None = None,
    data: HeteroData | None = None,
    val_data: HeteroData | None = None,
    metric: str = "recall@20",
) -> HeteroData:
    r"""Fuse the ranked lists of several teachers into those of one.

    An item scores, by its ranks :math:`r_m` from 0 on the lists of length :math:`K_m` that hold it,

    .. math::
        f(u, i) = \sum_m w_m c_{m,ui} \cdot \begin{cases}
        1 / (c + r_m(u, i)) & \text{reciprocal rank} \\
        1 - r_m(u, i) / K_m & \text{Borda} \\
        (s_{m,ui} - \min_j s_{m,uj}) / (\max_j s_{m,uj} - \min_j s_{m,uj}) & \text{score}
        \end{cases}

    Reciprocal ranks are those of `"Reciprocal Rank Fusion" <https://doi.org/10.1145/1571941.1572114>`_
    (there :math:`c = 60`); scores are inner products of ``teacher_x``, or ``teacher_scores`` where
    a graph has no embeddings. :math:`c_{m,ui}` is a teacher's confidence in the place, 1 unless its
    graph carries ``teacher_confidence``. Teachers of different kinds gain most by fusion. Equal
    items keep the order of their best rank.

    Args:
        teachers: Graphs with ``teacher_items`` of the same edges, as :func:`extract_knowledge`
            returns them, or recommenders fitted on ``data``.
        weights: The weight :math:`w_m` of each teacher. By default equal, or with ``val_data``
            chosen: starting from the best teacher alone, teachers are added with a weight out of
            0.25, 0.5, 1 and 2 as long as that improves the validation metric of the lists' first
            places, ten times as many as it counts.
        how: ``"reciprocal_rank"`` (default), ``"borda"`` or ``"score"``.
        constant: :math:`c`.
        num_items: Items kept for each user; by default as many as the longest list has.
        data: The training graph, for teachers that are recommenders.
        val_data: Targets in ``edge_label_index``, by which weights are chosen.
        metric: The metric of that choice.

    Returns:
        A graph whose ``teacher_items`` are the fused lists, int32 ``[U, num_items]``, with
        :math:`\log f` of every place as ``teacher_scores``, float32, 0 at padding, and
        ``teacher_weights`` the weights. A softmax of these scores is proportional to :math:`f`,
        with a temperature :math:`T` to :math:`f^{1/T}`. It carries no ``teacher_x``: an ensemble
        has no embeddings.

    Raises:
        TypeError: If a teacher is neither a graph nor a recommender.
        ValueError: If there is no teacher, their graphs differ, one has no lists, weights are
            negative or all 0, both ``weights`` and ``val_data`` are given, or scores are asked for
            of a teacher that has neither inner products nor scores of its lists.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import EASE, MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> graph = fuse([EASE(data), MF(data, dim=4)], [1.0, 0.5], data=data, num_items=10)
        >>> graph["user"].teacher_items.shape, graph.teacher_weights
        (torch.Size([20, 10]), (1.0, 0.5))
    """
    require_choice(HOW, how=how)
    require_positive(constant=constant)
    if num_items is not None:
        require_count(num_items=num_items)
    if weights is not None and val_data is not None:
        raise ValueError("'weights' are given or chosen by 'val_data', not both")
    graphs = _graphs(teachers, data)
    lists = [trusted_lists(graph)[0] for graph in graphs]
    worth = [list_worth(graph, how, constant) for graph in graphs]
    if val_data is not None:
        task = ranking_task(graphs[0], val_data, "val_data")
        chosen = choose_weights(lists, worth, task, metric)
    else:
        chosen = _given(weights, len(graphs))
    k = max(found.size(1) for found in lists) if num_items is None else int(num_items)
    graph = copy.copy(graphs[0])
    fingerprints = [getattr(found, "teacher_fingerprint", "") for found in graphs]
    text = f"{how} {constant} {chosen} {fingerprints}"
    name_source(graph, graph_fingerprint(graph), hashlib.sha256(text.encode()).hexdigest())
    graph.teacher_inner_product = False
    graph.teacher_weights = chosen
    graph[USER].teacher_items, value = _fused(lists, worth, chosen, k)
    logits = value.clamp(min=SMALLEST).log()
    graph[USER].teacher_scores = logits.masked_fill(graph[USER].teacher_items < 0, 0.0)
    return graph


def _graphs(
    teachers: Sequence[HeteroData | Recommender], data: HeteroData | None
) -> list[HeteroData]:
    """The teachers as graphs of the same edges."""
    if not isinstance(teachers, (list, tuple)) or not teachers:
        raise ValueError(f"'teachers' must be a list of graphs or models (got {teachers!r:.80})")
    graphs = []
    for teacher in teachers:
        if isinstance(teacher, Recommender):
            if data is None:
                raise ValueError("teachers that are models need 'data', the graph they rank on")
            teacher = extract_knowledge(teacher, data)
        if not isinstance(teacher, HeteroData):
            raise TypeError(f"a teacher must be a graph or a model (got {type(teacher).__name__})")
        check_knowledge(teacher, "fuse", ("teacher_items",))
        graphs.append(teacher)
    found = [graph_fingerprint(graph) for graph in graphs]
    for place, fingerprint in enumerate(found):
        if fingerprint != found[0]:
            raise ValueError(
                f"teacher {place} is of another graph (fingerprint {fingerprint:.12}, that of "
                f"teacher 0 is {found[0]:.12})"
            )
    return graphs


def _given(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    found = tuple(float(w) for w in ((1.0,) * count if weights is None else weights))
    for value in found:
        require_at_least(0, weights=value)
    if len(found) != count or not any(found):
        raise ValueError(
            f"'weights' must be {count} numbers, one a teacher, not all 0 (got {weights})"
        )
    return found


def _fused(
    lists: list[Tensor], worth: list[Tensor], weights: Sequence[float], k: int
) -> tuple[Tensor, Tensor]:
    """Fused lists, int32 ``[U, k]``, and their values, float32."""
    used = [m for m, weight in enumerate(weights) if weight]
    width = max(lists[m].size(1) for m in used)
    num_users, step = len(lists[0]), max(ENTRIES // (width * len(used)), 1)
    ranked = lists[0].new_empty(num_users, k, dtype=torch.int32)
    total = torch.empty(ranked.shape, device=ranked.device)
    for start in range(0, num_users, step):
        rows = slice(start, start + step)
        items = lists[0].new_full((len(lists[0][rows]), len(used), width), -1)
        value = torch.zeros(items.shape, device=items.device, dtype=torch.double)
        for place, m in enumerate(used):
            part = worth[m] if worth[m].dim() == 1 else worth[m][rows]
            items[:, place, : lists[m].size(1)] = lists[m][rows]
            value[:, place, : lists[m].size(1)] = weights[m] * part
        ranked[rows], total[rows] = merge_scored_lists(items, value, k)
    return ranked, total
