"""Light graph propagation whose last layer is computed for the rows that are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.functional.kernels import csr_matmul, transposed_matmul
from pyg_kd.functional.neighbor_sampling import OTHER
from pyg_kd.functional.node_order import Blocks, OrderedAdjacency
from pyg_kd.functional.row_tables import as_rows
from pyg_kd.functional.sparse import CSR, some_rows
from pyg_kd.typing import ITEM, USER, XDict

#: Called with a node type and the distinct ids of nodes of it, int64 ``[R]``; returns their
#: representations, ``[R, d]``.
RowReader = Callable[[str, Tensor], Tensor]


def propagated_rows(
    x_user: Tensor, x_item: Tensor, adjacency: OrderedAdjacency, num_layers: int
) -> RowReader:
    r"""What computes rows of :func:`~pyg_kd.functional.propagate`, to the same values.

    .. math::
        X'_R = \frac{1}{L + 1} \left( \sum_{l=0}^{L-1} (\hat A^l X)_R
               + \hat A_R \, \hat A^{L-1} X \right)

    All layers but the last are computed now and kept; the last one takes the edges of the rows
    that are read, forward and backward. With :math:`G_R` the incoming gradient over :math:`L + 1`
    and :math:`G` its rows among zeros, the gradient of :math:`X` is

    .. math::
        G + \hat A (G + \hat A (\dots (G + \hat A_R^\top G_R)))

    so whole tables are nowhere added up.

    Args:
        x_user: User embeddings, ``[U, d]``.
        x_item: Item embeddings, ``[I, d]``.
        adjacency: The normalised adjacency with an order for its products.
        num_layers: Number of layers :math:`L`, 1 or more.

    Returns:
        A function of a node type and distinct ids, int64 ``[R]``, that returns their rows,
        ``[R, d]``. Gradients of all its results go on together.

    Example:
        >>> block = CSR(torch.tensor([0, 1]).int(), torch.tensor([0]).int(), torch.ones(1))
        >>> adjacency = OrderedAdjacency({"user": block, "item": block})
        >>> read = propagated_rows(torch.zeros(1, 2), torch.ones(1, 2), adjacency, num_layers=1)
        >>> read("user", torch.tensor([0]))
        tensor([[0.5000, 0.5000]])
    """
    held = _Held({USER: x_user.detach(), ITEM: x_item.detach()}, adjacency, num_layers)
    ends = dict(zip((USER, ITEM), _Propagation.apply(x_user, x_item, held), strict=True))
    return lambda kind, ids: as_rows(ends[kind], ids, held.values(kind, ids))


class _Held:
    """What the rows that are read have in common: the layers before, and edges until backward."""

    def __init__(self, x: XDict, adjacency: OrderedAdjacency, num_layers: int) -> None:
        self.adjacency, self.num_layers = adjacency, num_layers
        #: All layers but the last; those beyond the embeddings are in the order for products.
        self.layers = [x]
        for layer in range(1, num_layers):
            blocks = adjacency.into if layer == 1 else adjacency.within
            self.layers.append(_product(blocks, self.layers[-1]))
        self._edges: dict[str, tuple[Tensor, CSR]] = {}

    @torch.no_grad()
    def values(self, kind: str, ids: Tensor) -> Tensor:
        """Representations of some nodes, ``[R, d]``."""
        found: Tensor = csr_matmul(*self.edges(kind, ids), self.layers[-1][OTHER[kind]])
        for number, layer in enumerate(self.layers):
            found.add_(layer[kind].index_select(0, self._place(kind, ids) if number else ids))
        return found.div_(self.num_layers + 1)

    def edges(self, kind: str, ids: Tensor) -> CSR:
        """The edges of some nodes, to the layer before the last."""
        last = self._edges.get(kind)
        if last is None or not torch.equal(last[0], ids):
            blocks = self.adjacency.plain if self.num_layers == 1 else self.adjacency.out
            last = self._edges[kind] = ids, some_rows(blocks[kind], ids)
        return last[1]

    def backward(self, rows: dict[str, tuple[Tensor, Tensor]]) -> XDict:
        """Gradients of the embeddings by those of distinct or repeated rows, ids and values."""
        total = {kind: self._to_last(kind, rows) for kind in OTHER}
        for layer in range(self.num_layers - 1, 0, -1):
            for kind, (ids, x) in rows.items():
                total[kind].index_add_(0, self._place(kind, ids), x)
            blocks = self.adjacency.out if layer == 1 else self.adjacency.within
            total = _product(blocks, total)
        for kind, (ids, x) in rows.items():
            total[kind].index_add_(0, ids, x)
        return total

    def _to_last(self, kind: str, rows: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """What nodes of a kind get in the layer before the last, by edges to rows of the other."""
        num_nodes = len(self.layers[0][kind])
        if OTHER[kind] not in rows:
            return rows[kind][1].new_zeros(num_nodes, rows[kind][1].size(1))
        ids, x = rows[OTHER[kind]]
        found: Tensor = transposed_matmul(*self.edges(OTHER[kind], ids), x, num_nodes)
        return found

    def _place(self, kind: str, ids: Tensor) -> Tensor:
        return self.adjacency.place[kind].index_select(0, ids)


def _product(blocks: Blocks, x: XDict) -> XDict:
    return {kind: csr_matmul(*block, x[OTHER[kind]]) for kind, block in blocks.items()}


class _Propagation(torch.autograd.Function):
    """Two tables that take sparse gradients and have no values: those are held."""

    @staticmethod
    def forward(ctx: Any, x_user: Tensor, x_item: Tensor, held: _Held) -> tuple[Tensor, Tensor]:
        ctx.held = held
        ctx.set_materialize_grads(False)
        nowhere = x_user.new_full((1, 1), torch.nan)
        return nowhere.expand(x_user.shape), nowhere.clone().expand(x_item.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        held: _Held = ctx.held
        rows = {
            kind: (grad._indices()[0], grad._values() / (held.num_layers + 1))
            for kind, grad in zip((USER, ITEM), grads, strict=True)
            if grad is not None
        }
        if not rows:
            return None, None, None
        total = held.backward(rows)
        return total[USER], total[ITEM], None
