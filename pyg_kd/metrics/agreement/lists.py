"""Agreement of ranked lists, row by row: overlap, and rank-biased overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.checks import require_count


def overlap_at_k(first: Tensor, second: Tensor, k: int) -> Tensor:
    r"""The share of the first ``k`` items that two lists have in common, in any order.

    .. math::
        \frac{|S_{1:k} \cap T_{1:k}|}{\max(|S_{1:k}|, |T_{1:k}|)}

    which is over :math:`k` unless both lists are shorter.

    Args:
        first: Lists, integers ``[n, a]``, each item once, padded with -1 at the end.
        second: Lists of the same rows, ``[n, b]``.
        k: Length of the lists, at most the width of either.

    Returns:
        float64 ``[n]``; 0 where both lists are empty.

    Raises:
        ValueError: If shapes do not fit, ``k`` is out of range, or a gap precedes an item.

    Example:
        >>> overlap_at_k(torch.tensor([[3, 1, 2]]), torch.tensor([[1, 3, 4]]), k=2)
        tensor([1.], dtype=torch.float64)
    """
    _check(first, second)
    require_count(k=k)
    if k > min(first.size(1), second.size(1)):
        raise ValueError(
            f"'k' must be at most the width of the lists, {first.size(1)} and {second.size(1)} "
            f"(got {k})"
        )
    first, second = first[:, :k], second[:, :k]
    common = (_places(first, second) >= 0).sum(1).double()
    longest = torch.maximum(_lengths(first), _lengths(second))
    return common / longest.clamp(min=1)


def rank_biased_overlap(first: Tensor, second: Tensor, p: float = 0.9) -> Tensor:
    r"""Rank-biased overlap (RBO), extrapolated, of `"A Similarity Measure for Indefinite
    Rankings" <https://doi.org/10.1145/1852102.1852106>`_.

    With :math:`X_d` the number of items that the first :math:`d` of both lists share, and lists
    of lengths :math:`s \leq l`,

    .. math::
        \mathrm{RBO} = \frac{1 - p}{p} \left( \sum_{d=1}^{l} \frac{X_d}{d} p^d
        + \sum_{d=s+1}^{l} \frac{X_s (d - s)}{s d} p^d \right)
        + \left( \frac{X_l - X_s}{l} + \frac{X_s}{s} \right) p^l

    which takes the agreement found to go on where the lists end. The first :math:`d` places have
    a weight of about :math:`1 - p^d`: 10 have 86 % of it with :math:`p` = .9.

    Args:
        first: Lists, integers ``[n, a]``, each item once, padded with -1 at the end.
        second: Lists of the same rows, ``[n, b]``.
        p: Persistence, between 0 and 1.

    Returns:
        float64 ``[n]``, from 0 for disjoint lists to 1 for equal ones; 0 where a list is empty.

    Raises:
        ValueError: If shapes do not fit, ``p`` is out of range, or a gap precedes an item.

    Example:
        >>> lists = torch.tensor([[0, 1, 2], [0, 1, 2]])
        >>> rank_biased_overlap(lists, torch.tensor([[0, 1, 2], [1, 0, 3]])).round(decimals=4)
        tensor([1.0000, 0.6300], dtype=torch.float64)
    """
    _check(first, second)
    if not 0 < p < 1:
        raise ValueError(f"'p' must lie between 0 and 1 (got {p})")
    width = max(first.size(1), second.size(1))
    lengths = torch.stack([_lengths(first), _lengths(second)])
    short, long = lengths.amin(0).double(), lengths.amax(0).double()
    overlap = _running_overlap(first, second, width)
    depth = torch.arange(1, width + 1, device=first.device, dtype=torch.double)
    at_short, at_long = (_value_at(overlap, n) for n in (short, long))
    ratio = at_short / short.clamp(min=1)
    beyond = (depth - short.unsqueeze(1)).clamp(min=0) * ratio.unsqueeze(1)
    within = depth <= long.unsqueeze(1)
    total = ((overlap + beyond) / depth * p**depth * within).sum(1)
    end = (at_long - at_short) / long.clamp(min=1) + ratio
    return ((1 - p) / p * total + end * p**long).masked_fill(short == 0, 0.0)


def _running_overlap(first: Tensor, second: Tensor, width: int) -> Tensor:
    """The number of items that the first ``1, 2, ...`` of two lists share, ``[n, width]``."""
    place = _places(first, second)
    own = torch.arange(first.size(1), device=first.device)
    depth = torch.maximum(place, own)
    shared = torch.zeros(len(first), width, dtype=torch.double, device=first.device)
    shared.scatter_add_(1, depth, (place >= 0).double())
    return shared.cumsum(1)


def _places(first: Tensor, second: Tensor) -> Tensor:
    """Where the items of ``first`` stand in ``second``, int64 like ``first``; -1 where nowhere."""
    if second.size(1) == 0 or first.size(1) == 0:
        return torch.full(first.shape, -1, device=first.device)
    ordered, order = second.long().sort(dim=1)
    query = first.long().contiguous()
    found = torch.searchsorted(ordered, query).clamp(max=second.size(1) - 1)
    hit = (ordered.gather(1, found) == query) & (query >= 0)
    return order.gather(1, found).masked_fill(~hit, -1)


def _value_at(running: Tensor, length: Tensor) -> Tensor:
    """The running value after so many places; 0 after none."""
    if running.size(1) == 0:
        return running.new_zeros(len(running))
    place = (length.long() - 1).clamp(min=0).unsqueeze(1)
    return running.gather(1, place).squeeze(1).masked_fill(length == 0, 0.0)


def _lengths(lists: Tensor) -> Tensor:
    return (lists >= 0).sum(1)


def _check(first: Tensor, second: Tensor) -> None:
    if first.dim() != 2 or second.dim() != 2 or len(first) != len(second):
        raise ValueError(
            "'first' and 'second' must be lists of the same rows, [n, a] and [n, b] "
            f"(got {list(first.shape)} and {list(second.shape)})"
        )
    for name, lists in (("first", first), ("second", second)):
        if lists.is_floating_point() or lists.dtype == torch.bool:
            raise TypeError(f"{name!r} must be integers (got {lists.dtype})")
        listed = lists >= 0
        if bool((listed[:, 1:] & ~listed[:, :-1]).any()):
            raise ValueError(
                f"{name!r} must be padded with -1 at the end (got a gap before an item)"
            )
