"""Whether entities have the same neighbours in two spaces."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.checks import require_count
from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.graph import Neighbors
from pyg_kd.metrics.agreement.lists import overlap_at_k


def neighbourhood_agreement(
    first: Tensor, second: Tensor, k: int = 10, *, rows: Tensor | None = None
) -> Tensor:
    r"""The share of an entity's ``k`` nearest neighbours that two spaces have in common.

    .. math::
        \frac{|N_k(x_e) \cap N_k(y_e)|}{k}

    with the neighbours by cosine among all other entities, of equal ones those with lower ids.
    Entities are taken in blocks, so memory is linear in their number.

    Args:
        first: Representations, floating point ``[n, a]``.
        second: Representations of the same entities, ``[n, b]``.
        k: Number of neighbours, below ``n``.
        rows: The entities whose neighbours are compared, int64 ``[m]``; all by default.

    Returns:
        float64 ``[m]``, or ``[n]``.

    Raises:
        ValueError: If the numbers of entities differ, ``k`` or a row is out of range, or a
            representation is NaN.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> neighbourhood_agreement(x, x * 3, k=1)
        tensor([1., 1., 1., 1.], dtype=torch.float64)
    """
    check_entities(first, second)
    return overlap_at_k(nearest(first, k, rows=rows), nearest(second, k, rows=rows), k)


def nearest(x: Tensor, k: int, *, rows: Tensor | None = None) -> Tensor:
    r"""The ``k`` nearest other entities by cosine, the nearest first, int64 ``[m, k]``.

    Args:
        x: Representations, floating point ``[n, d]``.
        k: Number of neighbours, below ``n``.
        rows: The entities in question, int64 ``[m]``; all by default.

    Raises:
        ValueError: If ``k`` or a row is out of range, or a representation is NaN.

    Example:
        >>> nearest(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), k=1).flatten()
        tensor([1, 0, 1])
    """
    require_count(k=k)
    if k >= len(x):
        raise ValueError(f"'k' must be below the number of entities, {len(x)} (got {k})")
    dtype = torch.promote_types(x.dtype, torch.float32)
    unit = torch.nn.functional.normalize(x.detach().to(dtype), dim=1)
    itself = Neighbors(
        torch.arange(len(x) + 1, device=x.device), torch.arange(len(x), device=x.device)
    )
    ranking = rank_unseen(
        lambda row, col: unit[row] @ unit[col].t(), len(x), len(x), k, seen=itself, rows=rows
    )
    return torch.cat(
        [torch.empty(0, k, dtype=torch.long, device=x.device), *(r.ids for r in ranking)]
    )


def check_entities(first: Tensor, second: Tensor) -> None:
    """Raise ``ValueError`` unless both are matrices with one row per entity."""
    if first.dim() != 2 or second.dim() != 2 or len(first) != len(second):
        raise ValueError(
            "'first' and 'second' must be matrices with one row per entity "
            f"(got {list(first.shape)} and {list(second.shape)})"
        )
