"""Scores of several heads on each user's own list, with one sort for all of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.index import index2ptr

from pyg_kd.functional.sparse import csr_matmul, sampled_matmul


def head_scores(vectors: Sequence[tuple[Tensor, Tensor]], items: Tensor) -> Tensor:
    r"""The scores that several heads give to each user's own list of items.

    Equals :func:`~pyg_kd.functional.list_scores` of each head, but sorts the edges by item, which
    the backward pass needs, once instead of once a head.

    Args:
        vectors: Users ``[B, d]`` and items ``[I, d]`` of each head, ``d`` its own.
        items: Item ids, ``[B, K]``, padded with -1.

    Returns:
        ``[heads, B, K]``, with ``-inf`` at the padding.

    Example:
        >>> x = torch.eye(2)
        >>> head_scores([(x, x), (2 * x, x)], torch.tensor([[0], [-1]]))[:, :, 0]
        tensor([[1., -inf],
                [2., -inf]])
    """
    flat = [x for pair in vectors for x in pair]
    scores: Tensor = _HeadScores.apply(items.clamp(min=0).to(torch.int32), *flat)
    return torch.where(items < 0, -torch.inf, scores)


class _HeadScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, items: Tensor, *flat: Tensor) -> Tensor:
        ctx.save_for_backward(items, *flat)
        steps = torch.arange(items.size(0) + 1, device=items.device, dtype=torch.int32)
        ctx.ptr = steps * items.size(1)
        x = [value.contiguous() for value in flat]
        pairs = zip(x[::2], x[1::2], strict=True)
        scores = [sampled_matmul(ctx.ptr, items.flatten(), user, item) for user, item in pairs]
        return torch.stack(scores).view(len(scores), *items.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        items, *flat = ctx.saved_tensors
        col, order = items.flatten().sort(stable=True)
        row = order.div(items.size(1), rounding_mode="floor").to(torch.int32)
        col_ptr, out = index2ptr(col, flat[1].size(0)), list[Tensor | None]([None])
        for g, user, item in zip(grad.flatten(1), flat[::2], flat[1::2], strict=True):
            out.append(csr_matmul(ctx.ptr, items.flatten(), g, item.contiguous()))
            out.append(csr_matmul(col_ptr, row, g[order], user.contiguous()))
        return tuple(out)
