"""The popularity teacher: knowledge in the form of a teacher's that knows nothing of the user."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.knowledge.confidence import RANKING, whole_lists
from pyg_kd.knowledge.control_graph import (
    carried,
    listed_nodes,
    own_lists,
    usual_scores,
    with_knowledge,
)
from pyg_kd.knowledge.popularity import popular_unseen
from pyg_kd.knowledge.requirements import OF_SEVERAL
from pyg_kd.typing import ITEM, USER


def popularity_knowledge(graph: HeteroData, *, needs: Collection[str] | None = None) -> HeteroData:
    r"""Knowledge in the form of a teacher's that is popularity alone.

    A control: what a method gains from it needs no teacher. All shapes stay, and users without a
    list stay without one.

    * ``teacher_items``: the most popular unseen items; ``teacher_users``: the most active users.
    * ``teacher_scores``: at each place the mean of the teacher's over users. There is no
      ``teacher_confidence``, which is 1 for all places.
    * ``teacher_x``: multiples of one unit vector, equal for all users and proportional to
      :math:`1 + \log (1 + d_i)` for items of :math:`d_i` users, so that inner products rank by
      popularity. Users, and items, keep the mean square norm of the teacher's vectors, by which
      losses are scaled.
    * ``teacher_trajectory`` and ``teacher_observed``: the popular unseen, and the popular own
      items, in every state of every teacher.

    Args:
        graph: A graph with knowledge.
        needs: What the result carries of it; everything by default.

    Returns:
        The graph with other knowledge and other fingerprints; ``graph`` is left unchanged.

    Raises:
        ValueError: If there is no knowledge, or it is invalid.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> from pyg_kd.knowledge import read_lists
        >>> data = from_interactions([[0, 0, 1, 2, 2], [0, 1, 1, 1, 2]])
        >>> graph = read_lists({"user": [0, 1], "item": [2, 0]}, data)
        >>> popularity_knowledge(graph)["user"].teacher_items.tolist()
        [[2], [0], [-1]]
    """
    names = carried(graph, "popularity_knowledge", needs)
    graph = whole_lists(graph)
    values = _popular_lists(graph, names)
    if "teacher_x" in names:
        values |= _popular_vectors(graph)
    if names & set(OF_SEVERAL):
        values |= _popular_states(graph, names)
    result = with_knowledge(graph, names, values, "popularity")
    if "teacher_x" in names:
        result.teacher_inner_product = True
    return result


def _popularity(graph: HeteroData) -> Tensor:
    r"""The score :math:`1 + \log (1 + d_i)` of each item, float32."""
    return 1 + interactions(graph).by_item().degree.float().log1p()


def _popular_lists(graph: HeteroData, names: set[str]) -> dict[tuple[str, str], Tensor]:
    values = {}
    for node_type, name in RANKING.items():
        if name in names:
            given, rows = graph[node_type][name], listed_nodes(graph, node_type)
            lists = torch.full_like(given, -1)
            popular = popular_unseen(graph, rows, given.size(1), node_type=node_type)
            lists[rows] = popular.to(given.dtype)
            values[node_type, name] = lists
    if "teacher_items" in names and "teacher_scores" in graph[USER]:
        values[USER, "teacher_scores"] = usual_scores(graph, values[USER, "teacher_items"])
    return values


def _popular_vectors(graph: HeteroData) -> dict[tuple[str, str], Tensor]:
    values = {}
    for node_type in (USER, ITEM):
        given = graph[node_type].teacher_x
        length = torch.ones(len(given), device=given.device)
        if node_type == ITEM:
            length = _popularity(graph)
        norm = given.float().square().sum(1).mean().sqrt()
        x = torch.zeros_like(given)
        x[:, 0] = (length * norm / length.square().mean().sqrt()).to(x.dtype)
        values[node_type, "teacher_x"] = x
    return values


def _popular_states(graph: HeteroData, names: set[str]) -> dict[tuple[str, str], Tensor]:
    values = {}
    users = torch.arange(interactions(graph).num_users, device=interactions(graph)[0].device)
    if "teacher_trajectory" in names:
        given = graph[USER].teacher_trajectory
        popular = popular_unseen(graph, users, given.size(-1)).to(given.dtype)
        popular = popular[:, None, None].expand(given.shape)
        values[USER, "teacher_trajectory"] = torch.where(given[..., :1] < 0, -1, popular)
    if "teacher_observed" in names:
        given = graph[USER].teacher_observed
        own = _popular_own(graph, given.size(-1)).to(given.dtype)
        values[USER, "teacher_observed"] = own[:, None, None].expand(given.shape).contiguous()
    return values


def _popular_own(graph: HeteroData, width: int) -> Tensor:
    """Each user's own items, the most popular first, int64 ``[U, width]``."""
    own, degree = interactions(graph).by_user(), interactions(graph).by_item().degree
    return own_lists(own, -degree[own.col], width)
