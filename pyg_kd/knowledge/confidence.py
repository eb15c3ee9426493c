"""The lists of a teacher, for all users, and its confidence in their places."""

from __future__ import annotations

import copy

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.knowledge.values import PLACES, ROWS
from pyg_kd.typing import ITEM, USER

#: The attribute that holds the lists of each node type.
RANKING = {USER: "teacher_items", ITEM: "teacher_users"}


def trusted_lists(
    graph: HeteroData, width: int | None = None, node_type: str = USER
) -> tuple[Tensor, Tensor | None]:
    r"""The teacher's lists and the weight :math:`c_{ur}` of each of their places.

    Every method that learns from ``teacher_items`` multiplies the part of a place in its loss by
    that weight, and its docstring says which part that is. So twice the confidence of a user is
    twice its loss, and confidences of one change nothing. A place of confidence 0 is not on the
    list: those after it move up.

    Args:
        graph: A graph with the lists, ``[n, K]``, and maybe ``teacher_confidence``.
        width: The length of the lists wanted, at most; all by default.
        node_type: Whose lists; those of items carry no confidence.

    Returns:
        The lists, ``[n, k]``, padded with -1; and the weights, 0 at padding, ``[n, k]`` of the type
        of ``teacher_confidence``, or ``None`` where the graph carries none.

    Example:
        >>> import torch
        >>> graph = HeteroData()
        >>> graph["user"].teacher_items = torch.tensor([[7, 3, 5]])
        >>> graph["user"].teacher_confidence = torch.tensor([[0.9, 0.0, 0.2]])
        >>> trusted_lists(graph)
        (tensor([[ 7,  5, -1]]), tensor([[0.9000, 0.2000, 0.0000]]))
    """
    lists: Tensor = graph[node_type][RANKING[node_type]]
    if node_type != USER:
        return lists[:, :width], None
    confidence: Tensor | None = graph[USER].get("teacher_confidence")
    if confidence is None:
        return _of_all(graph, lists[:, :width], -1), None
    order = _order(lists, confidence)[:, :width]
    confidence = confidence.gather(1, order).masked_fill_(lists.gather(1, order) < 0, 0.0)
    lists = lists.gather(1, order).masked_fill_(confidence == 0, -1)
    return _of_all(graph, lists, -1), _of_all(graph, confidence, 0)


def trusted_scores(graph: HeteroData, width: int | None = None) -> Tensor:
    """``teacher_scores`` of the places that :func:`trusted_lists` returns, ``[U, k]``."""
    scores: Tensor = graph[USER].teacher_scores
    confidence: Tensor | None = graph[USER].get("teacher_confidence")
    if confidence is not None:
        scores = scores.gather(1, _order(graph[USER].teacher_items, confidence))
    return _of_all(graph, scores[:, :width], 0)


def whole_lists(graph: HeteroData) -> HeteroData:
    """A graph whose lists are of all users: itself, or a copy with the lists of some spread out.

    Example:
        >>> import torch
        >>> graph = HeteroData(user={"num_nodes": 3})
        >>> graph["user"].teacher_items = torch.tensor([[7, 3]])
        >>> graph["user"].teacher_rows = torch.tensor([1])
        >>> whole_lists(graph)["user"].teacher_items.tolist()
        [[-1, -1], [7, 3], [-1, -1]]
    """
    if ROWS not in graph[USER]:
        return graph
    whole = copy.copy(graph)
    for name in ("teacher_items", *PLACES):
        if name in graph[USER]:
            fill = -1 if name == "teacher_items" else 0
            whole[USER][name] = _of_all(graph, graph[USER][name], fill)
    del whole[USER][ROWS]
    return whole


def _of_all(graph: HeteroData, values: Tensor, fill: float) -> Tensor:
    """Rows of all users, those without a list filled."""
    rows: Tensor | None = graph[USER].get(ROWS)
    if rows is None:
        return values
    whole = values.new_full((int(graph[USER].num_nodes or 0), values.size(1)), fill)
    return whole.index_copy_(0, rows, values)


def _order(lists: Tensor, confidence: Tensor) -> Tensor:
    """Places with confidence before those without, else in their order, int64 ``[U, K]``."""
    nothing = (confidence == 0) | (lists < 0)
    return nothing.sort(dim=1, stable=True).indices
