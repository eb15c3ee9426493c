"""Whether two losses pull the same parameters the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class GradientPair(NamedTuple):
    """The gradients of two losses, compared.

    Args:
        cosine: Their cosine: below 0 they conflict. ``None`` where one of them is zero.
        first: The norm of the first.
        second: The norm of the second.
    """

    cosine: float | None
    first: float
    second: float


def compare_gradients(first: Tensor, second: Tensor, parameters: Sequence[Tensor]) -> GradientPair:
    r"""Compare the gradients of two losses with respect to the same parameters.

    .. math::
        \cos(g_1, g_2) = \frac{\langle g_1, g_2 \rangle}{\|g_1\| \|g_2\|}

    The parameters' own ``grad`` stays as it is, and so do the graphs of both losses.

    Args:
        first: A scalar with a graph.
        second: Another one.
        parameters: What both are differentiated by; one that a loss does not reach counts as
            zero there.

    Raises:
        ValueError: If a loss is not a scalar.

    Example:
        >>> x = torch.tensor([1.0, 0.0], requires_grad=True)
        >>> compare_gradients(x.sum(), -x[0], [x])
        GradientPair(cosine=-0.7071067811865475, first=1.4142135623730951, second=1.0)
    """
    for name, loss in (("first", first), ("second", second)):
        if loss.dim():
            raise ValueError(f"{name!r} must be a scalar (got {list(loss.shape)})")
    wanted = [p for p in parameters if p.requires_grad]
    gradients = zip(_gradients(first, wanted), _gradients(second, wanted), strict=True)
    dot = norm = other = 0.0
    for a, b in gradients:
        norm += 0.0 if a is None else float(a.double().square().sum())
        other += 0.0 if b is None else float(b.double().square().sum())
        if a is not None and b is not None:
            dot += float((a.double() * b.double()).sum())
    scale = (norm * other) ** 0.5
    return GradientPair(dot / scale if scale > 0 else None, norm**0.5, other**0.5)


def _gradients(loss: Tensor, parameters: list[Tensor]) -> Sequence[Tensor | None]:
    if not loss.requires_grad or not parameters:
        return [None] * len(parameters)
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
