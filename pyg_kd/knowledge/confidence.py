"""The confidence of a teacher in the places of its lists."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

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
    confidence: Tensor | None = graph[USER].get("teacher_confidence")
    if confidence is None or node_type != USER:
        return lists[:, :width], None
    order = _order(lists, confidence)[:, :width]
    confidence = confidence.gather(1, order).masked_fill_(lists.gather(1, order) < 0, 0.0)
    return lists.gather(1, order).masked_fill_(confidence == 0, -1), confidence


def trusted_scores(graph: HeteroData, width: int | None = None) -> Tensor:
    """``teacher_scores`` of the places that :func:`trusted_lists` returns, ``[U, k]``."""
    scores: Tensor = graph[USER].teacher_scores
    confidence: Tensor | None = graph[USER].get("teacher_confidence")
    if confidence is None:
        return scores[:, :width]
    return scores.gather(1, _order(graph[USER].teacher_items, confidence)[:, :width])


def _order(lists: Tensor, confidence: Tensor) -> Tensor:
    """Places with confidence before those without, else in their order, int64 ``[U, K]``."""
    nothing = (confidence == 0) | (lists < 0)
    return nothing.sort(dim=1, stable=True).indices
