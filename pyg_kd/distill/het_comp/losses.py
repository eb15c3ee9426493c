"""The two losses of HetComp."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyg_kd.functional.list_likelihood import list_likelihood_loss


def overall_loss(listed: Tensor, tail: Tensor) -> Tensor:
    r"""Each listed item against the tail; the order of the list does not matter.

    .. math::
        L_O = - \sum_k \log \frac{e^{s_k}}{e^{s_k} + e^z} = \sum_k \log (1 + e^{z - s_k})

    Args:
        listed: Scores :math:`s` of the listed items, ``[..., K]``. ``-inf`` marks padding.
        tail: Log-sum-exp :math:`z` of the scores of the tail, ``[...]``.

    Returns:
        One loss a list, ``[...]``.

    Example:
        >>> overall_loss(torch.tensor([[0.0, -torch.inf]]), torch.tensor([0.0]))
        tensor([0.6931])
    """
    padding = listed == -torch.inf  # NaN is not padding: let it propagate
    below = tail.unsqueeze(-1) - listed.masked_fill(padding, 0.0)
    return softplus(below.masked_fill(padding, -torch.inf)).sum(-1)


def fine_grained_loss(observed: Tensor, listed: Tensor, tail: Tensor) -> Tensor:
    r"""List likelihoods :math:`L` of observed items, and of the head of the unobserved ones.

    .. math::
        L_F = L(P) + \frac{1}{2} \left[ L(N^{1:K/2}) + L(N^{1:K/10}) \right]

    with :math:`L` that of :func:`~pyg_kd.functional.list_likelihood_loss`. Its tail is everything
    not on the list: the unlisted items, and the rest of :math:`N` as well, which for :math:`P` is
    what follows :math:`N^{1:K/2}`. Each part of :math:`N` has at least one item.

    Args:
        observed: Scores of :math:`P`, best first, ``[..., P]``. ``-inf`` marks padding.
        listed: Scores of :math:`N`, best first, ``[..., K]``. ``-inf`` marks padding.
        tail: Log-sum-exp of the scores of items that are not listed at all, ``[...]``.

    Returns:
        One loss a list, ``[...]``.

    Example:
        >>> listed, tail = torch.zeros(1, 2), torch.zeros(1)
        >>> fine_grained_loss(torch.full((1, 1), -torch.inf), listed, tail)
        tensor([1.0986])
    """
    num, tail = listed.size(-1), tail.unsqueeze(-1)
    heads = max(num // 2, 1), max(num // 10, 1)
    tails = [torch.cat([listed[..., head:], tail], -1) for head in heads]
    loss = list_likelihood_loss(observed, tails[0], reduction="none")
    for head, rest in zip(heads, tails, strict=True):
        loss = loss + 0.5 * list_likelihood_loss(listed[..., :head], rest, reduction="none")
    return loss
