"""How far one ranking is from another, by the items at the top of both."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.checks import require_choice

#: Whose rank tells how much a shared item is worth.
GAINS = ("teacher", "student")


def rank_in(items: Tensor, reference: Tensor) -> Tensor:
    r"""The ranks, from 0, of items in another list.

    Args:
        items: Item ids, ``[..., T]``, padded with -1.
        reference: Distinct item ids, best first, ``[..., K]``, padded with -1; K at least 1.

    Returns:
        int64 ``[..., T]``; K for what is not on the list, and for padding.

    Example:
        >>> rank_in(torch.tensor([[7, 5, -1]]), torch.tensor([[3, 7, -1]]))
        tensor([[1, 3, 3]])
    """
    ascending, rank = reference.sort(dim=-1)
    shape = torch.broadcast_shapes(items.shape[:-1], reference.shape[:-1])
    place, listed = find_in_lists(ascending, items.expand(*shape, -1))
    return torch.where(listed & (items >= 0), rank.gather(-1, place), reference.size(-1))


def find_in_lists(ascending: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Where each item would stand on the ascending list of its row, and whether it is there.

    Args:
        ascending: Item ids, ascending in every row, ``[..., K]``, K at least 1.
        items: Item ids, ``[..., L]``. Padding counts as an item.

    Returns:
        int64 and bool, both ``[..., L]``.
    """
    # A search in views is slow, and warns of it.
    ascending, items = ascending.contiguous(), items.to(ascending.dtype).contiguous()
    place = torch.searchsorted(ascending, items).clamp_(max=ascending.size(-1) - 1)
    return place, ascending.gather(-1, place) == items


def rank_discrepancy(student: Tensor, teacher: Tensor, *, gain: str = "teacher") -> Tensor:
    r"""One minus the NDCG of a student's list with a teacher's list as the truth.

    .. math::
        D = 1 - \frac{\sum_t g_t / \log_2(t + 2)}{\sum_r g(r) / \log_2(r + 2)}, \qquad
        g(r) = 2^{e^{-r / 10}} - 1

    with places from 0. An item at the student's place :math:`t` that is on the teacher's list, at
    its rank :math:`r`, has :math:`g_t = g(r)`, or :math:`g(t)` with ``gain="student"``; any
    other has 0.

    Args:
        student: Item ids, best first, ``[..., T]``, padded with -1.
        teacher: Item ids, best first, ``[..., K]``, padded with -1.
        gain: ``"teacher"`` or ``"student"``.

    Returns:
        float32 ``[...]`` in 0..1; 0 where the teacher has no list.

    Raises:
        ValueError: If ``gain`` is unknown.

    Example:
        >>> rank_discrepancy(torch.tensor([4, 2]), torch.tensor([2, 4]))
        tensor(0.0304)
    """
    require_choice(GAINS, gain=gain)
    rank = rank_in(student, teacher)
    longest = max(student.size(-1), teacher.size(-1))
    place = torch.arange(longest, device=rank.device, dtype=torch.float32)
    gains, discount = _gain(place), 1 / (place + 2).log2()
    listed, width = rank < teacher.size(-1), student.size(-1)
    worth = gains[rank.clamp(max=longest - 1)] if gain == "teacher" else gains[:width]
    dcg = (worth * discount[:width] * listed).sum(-1)
    ideal = ((gains * discount)[: teacher.size(-1)] * (teacher >= 0)).sum(-1)
    return torch.where(ideal > 0, 1 - dcg / ideal, 0.0).clamp_(min=0)


def _gain(rank: Tensor) -> Tensor:
    return (-rank / 10).exp().exp2() - 1
