"""Light graph propagation over sampled neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.functional.kernels import csr_matmul, transposed_matmul
from pyg_kd.functional.neighbor_sampling import OTHER
from pyg_kd.functional.row_tables import is_row_table
from pyg_kd.functional.sparse import CSR, gather_rows
from pyg_kd.functional.subgraph import Subgraph, require_hops
from pyg_kd.typing import ITEM, USER, XDict


def sampled_propagate(
    x_user: Tensor, x_item: Tensor, subgraph: Subgraph, num_layers: int
) -> tuple[Tensor, Tensor]:
    r"""Light graph convolution of the seeds of a subgraph.

    .. math::
        X' = \frac{1}{L + 1} \sum_{l=0}^{L} \hat S^l X
           = \frac{1}{L + 1} \left( X + \hat S (X + \hat S (X + \dots)) \right)

    A layer is computed for the nodes that later ones read: all but the seeds' own edges are gone
    through once. With all neighbours in the subgraph it equals
    :func:`~pyg_kd.functional.propagate`. With sampled ones its expectation does, for up to two
    layers: no path of two edges leads through one node's neighbours twice. From three layers on
    a path may return to where it was, and meets the same draw there.

    Args:
        x_user: Embeddings of the subgraph's users, ``[n, d]``.
        x_item: Embeddings of its items.
        subgraph: The subgraph.
        num_layers: Number of layers :math:`L`, with at least so many hops.

    Returns:
        The representations of the seeds among users and among items.

    Raises:
        ValueError: If there are fewer hops than layers.
    """
    out: tuple[Tensor, Tensor] = _SampledPropagate.apply(x_user, x_item, subgraph, num_layers)
    return out


def leading_rows(matrix: CSR, num_rows: int) -> CSR:
    """The first rows of a sparse matrix, without a copy."""
    if num_rows == matrix.ptr.numel() - 1:
        return matrix
    end = int(matrix.ptr[num_rows])
    return CSR(matrix.ptr[: num_rows + 1], matrix.col[:end], matrix.value[:end])


def block_matmul(matrix: CSR, x: Tensor) -> Tensor:
    """Product of a constant sparse ``[rows, n]`` matrix, all rows of it, with ``[n, d]``."""
    out: Tensor = _BlockMatmul.apply(*matrix, x)
    return out


class _BlockMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ptr: Tensor, col: Tensor, value: Tensor, x: Tensor) -> Any:
        ctx.save_for_backward(ptr, col, value)
        ctx.size = x.size(0)
        return csr_matmul(ptr, col, value, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = transposed_matmul(*ctx.saved_tensors, grad.contiguous(), ctx.size)
        return None, None, None, grad_x


def layer_sizes(subgraph: Subgraph, num_layers: int) -> list[dict[str, int]]:
    """How many nodes of each type layer 0 to L represents: those that the next one reads."""
    require_hops(subgraph, num_layers)
    return [
        {kind: of[num_layers - layer] for kind, of in subgraph.within.items()}
        for layer in range(num_layers + 1)
    ]


class _SampledPropagate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_user: Tensor, x_item: Tensor, subgraph: Subgraph, num_layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.subgraph, ctx.num_layers = subgraph, num_layers
        ctx.sizes = {USER: len(x_user), ITEM: len(x_item)}
        x = {USER: x_user, ITEM: x_item}
        sizes = layer_sizes(subgraph, num_layers)
        h = {kind: x[kind][: sizes[0][kind]] for kind in x}
        for size in sizes[1:]:
            h = {
                kind: csr_matmul(*leading_rows(subgraph.blocks[kind], n), h[OTHER[kind]]).add_(
                    x[kind][:n]
                )
                for kind, n in size.items()
            }
        return tuple(h[kind] / (num_layers + 1) for kind in (USER, ITEM))  # type: ignore[return-value]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kinds = zip((USER, ITEM), grads, strict=True)
        g: XDict = {kind: grad / (ctx.num_layers + 1) for kind, grad in kinds}
        total = {kind: x.new_zeros(ctx.sizes[kind], x.size(1)) for kind, x in g.items()}
        sizes = layer_sizes(ctx.subgraph, ctx.num_layers)
        for size, before in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
            for kind, n in size.items():
                total[kind][:n] += g[kind]
            g = {
                OTHER[kind]: transposed_matmul(
                    *leading_rows(ctx.subgraph.blocks[kind], n), g[kind], before[OTHER[kind]]
                )
                for kind, n in size.items()
            }
        for kind, x in g.items():
            total[kind][: len(x)] += x
        return total[USER], total[ITEM], None, None


def rows_at(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of an embedding table at distinct ids: ``[n, d]``, with a gradient in one copy."""
    if is_row_table(table):
        return gather_rows(table, ids)
    out: Tensor = _RowsAt.apply(table, ids)
    return out


class _RowsAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.size = len(table)
        return table.index_select(0, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, ids, grad), None
