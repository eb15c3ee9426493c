"""Blocks of the product of two sparse matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.functional.co_interactions import bounded_parts
from pyg_kd.functional.sparse import CSR, keep_float32, require_one_device, row_matmul
from pyg_kd.graph import entries_of

#: Products of two entries summed at once; those of a row stay together.
MAX_PRODUCTS = 2**22


def product_block(first: CSR, second: CSR, rows: Tensor, cols: Tensor, num_cols: int) -> Tensor:
    r"""Some rows and columns of the product of two sparse matrices, dense.

    The entries of both that meet are multiplied and summed, or, where columns are so few that it
    is cheaper, the columns are made dense.

    Args:
        first: ``[R, n]``.
        second: ``[n, num_cols]``, of the same dtype.
        rows: int64 ``[b]``.
        cols: int64 ``[t]``.
        num_cols: Columns of ``second``.

    Returns:
        ``[b, t]``.

    Example:
        >>> ptr, col = torch.tensor([[0, 1, 2], [0, 1, -1]], dtype=torch.int32)
        >>> matrix = CSR(ptr, col[:2], torch.tensor([1.0, 2.0]))
        >>> product_block(matrix, matrix, torch.tensor([1, 0]), torch.tensor([1, 1, 0]), 2)
        tensor([[4., 4., 0.],
                [0., 0., 1.]])
    """
    out: Tensor = _product_block(*first, *second, rows, cols, num_cols)
    return out


# The shapes inside depend on values: an opaque custom op.
@torch.library.custom_op("pyg_kd::product_block", mutates_args=())
def _product_block(
    ptr: Tensor,
    col: Tensor,
    value: Tensor,
    other_ptr: Tensor,
    other_col: Tensor,
    other_value: Tensor,
    rows: Tensor,
    cols: Tensor,
    num_cols: int,
) -> Tensor:
    """:func:`product_block`, the matrices in parts."""
    first, second = CSR(ptr, col, value), CSR(other_ptr, other_col, other_value)
    distinct, column = cols.unique(return_inverse=True)
    place = cols.new_full((num_cols,), -1)
    place[distinct] = torch.arange(len(distinct), device=cols.device)
    row, entry = entries_of(first.ptr, rows)
    products = row.new_zeros(len(rows))
    products.index_add_(0, row, second.ptr.diff().long()[first.col[entry].long()])
    if len(row) * len(distinct) + len(second.col) < int(products.sum()):
        block = row_matmul(first, rows, _columns(second, place, len(distinct)))
    else:
        block = first.value.new_zeros(len(rows), len(distinct))
        for part in bounded_parts(products, MAX_PRODUCTS):
            _add_products(block, part, first, second, rows, place)
    ascending = len(distinct) == len(cols) and bool((column[1:] > column[:-1]).all())
    return block if ascending else block[:, column]


@_product_block.register_fake
def _(
    ptr: Tensor,
    col: Tensor,
    value: Tensor,
    other_ptr: Tensor,
    other_col: Tensor,
    other_value: Tensor,
    rows: Tensor,
    cols: Tensor,
    num_cols: int,
) -> Tensor:
    require_one_device(ptr, col, value, other_ptr, other_col, other_value, rows, cols)
    return value.new_empty(len(rows), len(cols))


keep_float32("pyg_kd::product_block")


def _columns(matrix: CSR, place: Tensor, width: int) -> Tensor:
    """The columns of a matrix that have a place, dense."""
    target = place[matrix.col.long()]
    kept = (target >= 0).nonzero().squeeze(1)
    row = torch.repeat_interleave(matrix.ptr.diff(), output_size=len(matrix.col))[kept]
    dense = matrix.value.new_zeros(len(matrix.ptr) - 1, width)
    dense[row.long(), target[kept]] = matrix.value[kept]
    return dense


def _add_products(
    block: Tensor, part: Tensor, first: CSR, second: CSR, rows: Tensor, place: Tensor
) -> None:
    """Add the products of single entries to some rows of a block, in columns that have a place."""
    index, entry = entries_of(first.ptr, rows[part])
    path, end = entries_of(second.ptr, first.col[entry].long())
    target = place[second.col[end].long()]
    if block.size(1) < len(place):
        kept = (target >= 0).nonzero().squeeze(1)
        path, end, target = path[kept], end[kept], target[kept]
    key = part[index[path]] * block.size(1) + target
    block.view(-1).index_add_(0, key, first.value[entry][path] * second.value[end])
