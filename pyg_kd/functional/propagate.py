"""Light graph propagation: the symmetric-normalised adjacency, applied L times."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.data import HeteroData

from pyg_kd.functional.layer_blocks import LayerBlocks, layer_blocks, rows_between
from pyg_kd.functional.sparse import CSR, csr_matmul
from pyg_kd.graph import Interactions, Neighbors, interactions


class Adjacency(NamedTuple):
    r"""The two blocks of :math:`\hat A = D^{-1/2} A D^{-1/2}` of a user-item graph.

    ``user`` is ``[U, I]`` and gathers items into users, ``item`` its transpose.
    """

    user: CSR
    item: CSR

    def to(self, device: torch.device | str) -> Adjacency:
        """The same adjacency on another device."""
        return Adjacency(*(CSR(*(t.to(device) for t in block)) for block in self))


def normalized_adjacency(data: HeteroData) -> Adjacency:
    r"""Build :math:`\hat A` with entries :math:`1 / \sqrt{|N_u| |N_i|}` from the edges of a graph.

    Repeated edges count once. The result is cached with the edges of the graph.
    """
    return interactions(data).cached("adjacency", _adjacency)


def _adjacency(edges: Interactions) -> Adjacency:
    of_user, of_item = edges.by_user(), edges.by_item()
    return Adjacency(_normalize(of_user, of_item), _normalize(of_item, of_user))


def _normalize(rows: Neighbors, cols: Neighbors) -> CSR:
    # A node of degree 0 has no edge, so its infinite factor is never read.
    left = torch.repeat_interleave(rows.degree.to(torch.float).rsqrt(), rows.degree)
    value = left * cols.degree.to(torch.float).rsqrt()[rows.col]
    return CSR.of(rows, value)


def propagate(
    x_user: Tensor,
    x_item: Tensor,
    graph: HeteroData | Adjacency,
    num_layers: int,
    *,
    block_rows: int | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Light graph convolution of `"LightGCN" <https://arxiv.org/abs/2002.02126>`_.

    .. math::
        X' = \frac{1}{L + 1} \sum_{l=0}^{L} \hat A^l X
           = \frac{1}{L + 1} \left( X + \hat A (X + \hat A (X + \dots)) \right)

    Since :math:`\hat A` is symmetric, the backward pass is the same polynomial
    applied to the incoming gradient: no transpose, and no layer is kept.

    Args:
        x_user: User embeddings, ``[U, d]``.
        x_item: Item embeddings, ``[I, d]``.
        graph: The graph, or its :func:`normalized_adjacency`.
        num_layers: Number of layers :math:`L`; 0 returns the input.
        block_rows: Rows of a layer that are computed at a time, to the same bits; by default all.
        folder: With ``block_rows``, where layers are kept as files, what is returned and gradients
            among them, when they don't fit in memory. The files vanish with the tensors.

    Returns:
        The propagated user and item representations.

    Raises:
        ValueError: If sizes or widths do not fit the graph or each other, or ``block_rows`` is
            not positive or missing where there is a folder.
        OSError: If there is no such folder, or no room in it.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data["user"].num_nodes, data["item"].num_nodes = 1, 1
        >>> data["user", "interacts", "item"].edge_index = torch.tensor([[0], [0]])
        >>> x_user, x_item = propagate(torch.zeros(1, 2), torch.ones(1, 2), data, num_layers=1)
        >>> x_user
        tensor([[0.5000, 0.5000]])
    """
    adjacency = graph if isinstance(graph, Adjacency) else normalized_adjacency(graph)
    expected = (adjacency.user.ptr.numel() - 1, adjacency.item.ptr.numel() - 1)
    if (x_user.size(0), x_item.size(0)) != expected or x_user.size(1) != x_item.size(1):
        raise ValueError(
            f"'x_user' and 'x_item' must be [{expected[0]}, d] and [{expected[1]}, d] "
            f"(got {list(x_user.shape)} and {list(x_item.shape)})"
        )
    if num_layers < 0:
        raise ValueError(f"'num_layers' must not be negative (got {num_layers})")
    if num_layers == 0:
        return x_user, x_item
    blocks = layer_blocks(block_rows, folder)
    out: tuple[Tensor, Tensor] = _Propagate.apply(x_user, x_item, adjacency, num_layers, blocks)
    return out


def _polynomial(
    x_user: Tensor,
    x_item: Tensor,
    adjacency: Adjacency,
    num_layers: int,
    blocks: LayerBlocks | None,
) -> tuple[Tensor, Tensor]:
    layer = _layer if blocks is None else partial(_layer_of_blocks, blocks)
    h_user, h_item = x_user, x_item
    for _ in range(num_layers):
        h_user, h_item = (
            layer(x_user, adjacency.user, h_item),
            layer(x_item, adjacency.item, h_user),
        )
    return h_user.div_(num_layers + 1), h_item.div_(num_layers + 1)


def _layer(x: Tensor, matrix: CSR, h: Tensor) -> Tensor:
    """A step of Horner's scheme: ``x + matrix @ h``."""
    out: Tensor = csr_matmul(*matrix, h)
    return out.add_(x)


def _layer_of_blocks(blocks: LayerBlocks, x: Tensor, matrix: CSR, h: Tensor) -> Tensor:
    out = blocks.empty_like(x)
    for first, stop in blocks.ranges(len(x)):
        part = csr_matmul(*rows_between(matrix, first, stop), h)
        torch.add(part, x[first:stop], out=out[first:stop])
    return out


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_user: Tensor,
        x_item: Tensor,
        adjacency: Adjacency,
        num_layers: int,
        blocks: LayerBlocks | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.how = adjacency, num_layers, blocks
        return _polynomial(x_user, x_item, *ctx.how)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_user: Tensor, grad_item: Tensor) -> tuple[Tensor | None, ...]:
        return *_polynomial(grad_user, grad_item, *ctx.how), None, None, None
