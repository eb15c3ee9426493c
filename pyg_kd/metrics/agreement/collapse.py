"""How many directions of its space a model uses."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from pyg_kd.checks import require_count, require_positive

#: Entities that uniformity compares with each other.
MAX_ENTITIES = 4096

#: Rows of a block of pairs.
BLOCK = 1024


def effective_rank(x: Tensor) -> float:
    r"""Effective rank of `"The Effective Rank: A Measure of Effective Dimensionality"
    <https://ieeexplore.ieee.org/document/7098875>`_.

    .. math::
        \exp \Big( - \sum_k p_k \log p_k \Big), \qquad p_k = \sigma_k \Big/ \sum_j \sigma_j

    with :math:`\sigma` the singular values of the representations, columns centred: from 1, all
    on a line, to the width, spread evenly.

    Args:
        x: Representations, floating point ``[n, d]``.

    Returns:
        The effective rank; 0 where all entities are the same.

    Raises:
        ValueError: If ``x`` is not a matrix of one row or more.

    Example:
        >>> cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(effective_rank(cross), 3)
        2.0
    """
    share = _shares(_variances(x).sqrt())
    return 0.0 if share is None else float(torch.special.entr(share).sum().exp())


def variance_share(x: Tensor, k: int = 1) -> float:
    r"""The share of the variance in the first ``k`` principal directions.

    Args:
        x: Representations, floating point ``[n, d]``.
        k: Number of directions.

    Returns:
        From :math:`k / d` to 1; 1 where all entities are the same.

    Raises:
        ValueError: If ``x`` is not a matrix of one row or more, or ``k`` is out of range.

    Example:
        >>> cross = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(variance_share(cross), 3)
        0.8
    """
    require_count(k=k)
    share = _shares(_variances(x))
    return 1.0 if share is None else float(share[:k].sum())


def uniformity(x: Tensor, t: float = 2.0, *, max_entities: int = MAX_ENTITIES) -> float:
    r"""Uniformity of `"Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere" <https://arxiv.org/abs/2005.10242>`_.

    .. math::
        \log \frac{1}{n (n - 1)} \sum_{i \neq j} e^{-t \| \hat x_i - \hat x_j \|^2}

    of rows of unit length: 0 where all point in one direction, lower the more evenly they fill
    the sphere.

    Args:
        x: Representations, floating point ``[n, d]``.
        t: Sharpness.
        max_entities: Of more entities, so many at equal distances in the table are taken.

    Raises:
        ValueError: If ``x`` is not a matrix of two rows or more, or an option is out of range.

    Example:
        >>> round(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), 3)
        -8.0
    """
    require_positive(t=t)
    require_count(2, max_entities=max_entities)
    _check(x, 2)
    if len(x) > max_entities:
        x = x[torch.linspace(0, len(x) - 1, max_entities, device=x.device).round().long()]
    unit = torch.nn.functional.normalize(x.detach().double(), dim=1)
    total = 0.0
    for start in range(0, len(unit), BLOCK):
        cosine = unit[start : start + BLOCK] @ unit.t()
        kernel = (2 * t * (cosine - 1)).exp_()
        total += float(kernel.sum() - kernel.diagonal(start).sum())
    return log(total / (len(unit) * (len(unit) - 1)))


def _variances(x: Tensor) -> Tensor:
    """Squared singular values of the centred rows, descending, float64 ``[d]``."""
    _check(x, 1)
    x = x.detach()
    mean = x.mean(0, dtype=torch.double)
    gram = torch.zeros(x.size(1), x.size(1), dtype=torch.double, device=x.device)
    for part in x.split(2**14):
        centred = part.double() - mean
        gram += centred.t() @ centred
    values: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp_(min=0)
    return values


def _shares(values: Tensor) -> Tensor | None:
    total = values.sum()
    return values / total if float(total) > 0 else None


def _check(x: Tensor, least: int) -> None:
    if x.dim() != 2 or len(x) < least:
        raise ValueError(f"'x' must be a matrix of {least} rows or more (got {list(x.shape)})")
