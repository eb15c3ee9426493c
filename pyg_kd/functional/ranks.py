"""Ranks in lists: how far apart two rankings are, and one ranking made of several."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from pyg_kd.checks import require_choice

#: Whose rank decides the gain of a shared item.
Gain = Literal["teacher", "student"]
GAINS: tuple[Gain, ...] = get_args(Gain)


def rank_in(items: Tensor, reference: Tensor) -> Tensor:
    r"""The ranks, from 0, of items in another list.

    Args:
        items: Item ids, ``[..., T]``, padded with -1.
        reference: Distinct item ids, best first, ``[..., K]``, padded with -1; K at least 1.

    Returns:
        int64 ``[..., T]``; K for items that are not on the list, and for padding.

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
    # searchsorted copies non-contiguous input, with a warning.
    ascending, items = ascending.contiguous(), items.to(ascending.dtype).contiguous()
    place = torch.searchsorted(ascending, items).clamp_(max=ascending.size(-1) - 1)
    return place, ascending.gather(-1, place) == items


def rank_discrepancy(student: Tensor, teacher: Tensor, *, gain: Gain = "teacher") -> Tensor:
    r"""One minus the NDCG of a student's list, with a teacher's list as the ground truth.

    .. math::
        D = 1 - \frac{\sum_t g_t / \log_2(t + 2)}{\sum_r g(r) / \log_2(r + 2)}, \qquad
        g(r) = 2^{e^{-r / 10}} - 1

    with places from 0. An item at the student's place :math:`t` and at rank :math:`r` of the
    teacher's list has :math:`g_t = g(r)`, or :math:`g(t)` with ``gain="student"``; an item that
    is not on that list has 0.

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


def rank_ensemble(
    lists: Tensor, k: int, *, decay: float = 10.0, extra: Tensor | None = None
) -> Tensor:
    r"""Rank items by their summed importance in several lists.

    .. math::
        c(i) = \sum_x e^{-r_x(i) / \mathit{decay}} + \mathit{extra}_x(i)

    over the lists :math:`x` that hold :math:`i`, with ranks :math:`r_x` from 0. Ties go to the
    item with the best rank in any list, then to the one in the earlier list.

    Args:
        lists: Item ids, best first and distinct in each list, ``[B, X, K]``, padded with -1.
        k: Length of the result.
        decay: Steepness of the importance, in ranks.
        extra: Further importance of each entry, ``[B, X, K]``.

    Returns:
        Item ids of the type of ``lists``, ``[B, k]``, padded with -1.

    Example:
        >>> rank_ensemble(torch.tensor([[[5, 3, 1], [2, 1, 3]]]), 3)
        tensor([[3, 1, 5]])
    """
    rank = torch.arange(lists.size(2), device=lists.device, dtype=torch.double)
    importance = (-rank / decay).exp().expand(lists.shape)
    return merge_lists(lists, importance if extra is None else importance + extra, k)


def merge_lists(lists: Tensor, importance: Tensor, k: int) -> Tensor:
    r"""Rank items by what several lists say of them, summed up.

    Ties go to the item with the best rank in any list, then to the one in the earlier list.

    Args:
        lists: Item ids, best first and distinct in each list, ``[B, X, K]``, padded with -1.
        importance: What each entry says of its item, ``[B, X, K]``.
        k: Length of the result.

    Returns:
        Item ids of the type of ``lists``, ``[B, k]``, padded with -1.

    Example:
        >>> merge_lists(torch.tensor([[[5, 3], [3, 1]]]), torch.tensor([[[3, 2], [2, 1]]]), 3)
        tensor([[3, 5, 1]])
    """
    return merge_scored_lists(lists, importance, k)[0]


def merge_scored_lists(lists: Tensor, importance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""As :func:`merge_lists`, with the sums.

    Returns:
        Item ids of the type of ``lists``, ``[B, k]``, padded with -1, and their sums, float64
        ``[B, k]``, ``-inf`` at padding.

    Example:
        >>> lists, worth = torch.tensor([[[5, 3], [3, 1]]]), torch.tensor([[[3, 2], [2, 1]]])
        >>> merge_scored_lists(lists, worth, 3)[1]
        tensor([[4., 3., 1.]], dtype=torch.float64)
    """
    # Entries by rank, then by list; a stable sort keeps this order among those of an item.
    entries = lists.transpose(1, 2).flatten(1)
    item, order = entries.sort(dim=1, stable=True)
    importance = importance.transpose(1, 2).flatten(1).gather(1, order)
    total = total_by_item(item, importance.double(), lists.size(1))
    total = torch.empty_like(total).scatter_(1, order, total)
    total, order = total.sort(dim=1, descending=True, stable=True)
    ranked = entries.gather(1, order).masked_fill_(total == -torch.inf, -1)
    missing = (0, max(k - ranked.size(1), 0))
    return (
        torch.nn.functional.pad(ranked[:, :k], missing, value=-1),
        torch.nn.functional.pad(total[:, :k], missing, value=-torch.inf),
    )


def total_by_item(items: Tensor, value: Tensor, num_lists: int) -> Tensor:
    """Values added up where entries of a row are of one item.

    Args:
        items: Item ids, ascending in every row, ``[B, N]``, each at most ``num_lists`` times.
        value: The value of each entry, ``[B, N]``.
        num_lists: How often an item may occur in a row.

    Returns:
        ``[B, N]``: the sum at an item's first entry, ``-inf`` at its other entries and at padding.
    """
    total = value.clone()
    for step in range(1, num_lists):
        same = items[:, step:] == items[:, :-step]
        total[:, :-step] += torch.where(same, value[:, step:], 0.0)
    total[:, 1:].masked_fill_(items[:, 1:] == items[:, :-1], -torch.inf)
    return total.masked_fill_(items < 0, -torch.inf)


def rank_spread(states: Tensor, state: Tensor) -> Tensor:
    r"""How much the ranks of a list's items varied up to the state of that list.

    Args:
        states: Lists of each ranking over time, ``[B, X, V, K]``, padded with -1.
        state: The current state of each ranking, int64 ``[B, X]``.

    Returns:
        For the items listed at ``state``, in their order, the standard deviation of their ranks
        over the states up to it: float64 ``[B, X, K]``. An item that is not listed has rank K.

    Example:
        >>> states = torch.tensor([[[[5, 3], [3, 5], [3, 8]]]])
        >>> rank_spread(states, torch.tensor([[1]]))
        tensor([[[0.5000, 0.5000]]], dtype=torch.float64)
    """
    now = at_state(states, state)
    ranks = torch.stack([rank_in(now, lists) for lists in states.unbind(2)], 2).double()
    time = torch.arange(states.size(2), device=states.device)
    past = (time <= state.unsqueeze(2)).unsqueeze(3)
    mean = (ranks * past).sum(2, keepdim=True) / past.sum(2, keepdim=True)
    spread: Tensor = ((ranks - mean).square() * past).sum(2).div(past.sum(2)).sqrt()
    return spread


def at_state(states: Tensor, state: Tensor) -> Tensor:
    """The lists ``[B, X, K]`` of ``states`` (``[B, X, V, K]``) at ``state`` (``[B, X]``)."""
    row, column = (torch.arange(n, device=states.device) for n in state.shape)
    return states[row.unsqueeze(1), column, state]
