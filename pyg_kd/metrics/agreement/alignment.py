"""Whether two spaces of any widths are alike up to rotation and scale."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyg_kd.checks import require_count
from pyg_kd.metrics.agreement.neighbourhoods import check_entities

#: Entities at once.
BLOCK = 2**14


def cka(first: Tensor, second: Tensor, *, debiased: bool = False, block: int = BLOCK) -> float:
    r"""Linear centred kernel alignment of `"Similarity of Neural Network Representations
    Revisited" <https://arxiv.org/abs/1905.00414>`_.

    With columns centred,

    .. math::
        \frac{\| Y^\top X \|_F^2}{\| X^\top X \|_F \, \| Y^\top Y \|_F}

    from 0 to 1, the same after a rotation or scaling of either space. It costs
    :math:`n d_x d_y`; the kernels, :math:`n \times n`, are never formed. Sums are in float64.

    Of few entities in wide spaces even random ones seem alike. ``debiased`` takes the unbiased
    estimate of the Hilbert-Schmidt independence criterion instead, of `"Feature Selection via
    Dependence Maximization" <https://jmlr.org/papers/v13/song12a.html>`_, which is about 0 for
    unrelated spaces, below 0 too.

    Args:
        first: Representations, floating point ``[n, a]``.
        second: Representations of the same entities, ``[n, b]``.
        debiased: Take the unbiased estimate, which needs four entities.
        block: Entities at once.

    Returns:
        The alignment; 0 where a space has no variance.

    Raises:
        ValueError: If the numbers of entities differ, or there are too few of them.

    Example:
        >>> x = torch.randn(50, 4)
        >>> rotation = torch.linalg.qr(torch.randn(4, 4)).Q
        >>> round(cka(x, 3 * x @ rotation), 4)
        1.0
    """
    check_entities(first, second)
    require_count(block=block)
    least = 4 if debiased else 2
    if len(first) < least:
        raise ValueError(f"'first' must hold {least} entities or more (got {len(first)})")
    mean = (_mean(first, block), _mean(second, block))
    x, y = (first, mean[0]), (second, mean[1])
    between = _unbiased if debiased else _cross
    own = [between(side, side, block) for side in (x, y)]
    scale = own[0] * own[1]
    return between(x, y, block) / scale**0.5 if scale > 0 and min(own) > 0 else 0.0


Side = tuple[Tensor, Tensor]


def _mean(x: Tensor, block: int) -> Tensor:
    """The mean of the rows, float64 ``[d]``."""
    total = torch.zeros(x.size(1), dtype=torch.double, device=x.device)
    for part in x.detach().split(block):
        total += part.sum(0, dtype=torch.double)
    return total / len(x)


def _blocks(x: Side, y: Side, block: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Centred rows of both sides, float64."""
    parts = zip(x[0].detach().split(block), y[0].detach().split(block), strict=True)
    for a, b in parts:
        yield a.double() - x[1], b.double() - y[1]


def _cross(x: Side, y: Side, block: int) -> float:
    """The squared norm of the product of two centred sides."""
    total = torch.zeros(len(x[1]), len(y[1]), dtype=torch.double, device=x[1].device)
    for a, b in _blocks(x, y, block):
        total += a.t() @ b
    return float(total.square().sum())


def _unbiased(x: Side, y: Side, block: int) -> float:
    """The unbiased criterion up to its constant, of kernels whose diagonals are left out."""
    n = len(x[0])
    trace = row = 0.0
    sums = [torch.zeros_like(mean) for mean in (x[1], y[1])]  # of centred rows: rounding alone
    whole = [0.0, 0.0]
    for a, b in _blocks(x, y, block):
        norm_a, norm_b = a.square().sum(1), b.square().sum(1)
        trace -= float(norm_a @ norm_b)
        row += float((a @ sums[0] - norm_a) @ (b @ sums[1] - norm_b))
        whole[0] -= float(norm_a.sum())
        whole[1] -= float(norm_b.sum())
    trace += _cross(x, y, block)
    return trace + whole[0] * whole[1] / ((n - 1) * (n - 2)) - 2 * row / (n - 2)
