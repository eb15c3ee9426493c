"""Gram matrices of sparse matrices, computed in tiles of columns."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.functional.sparse import CSR, csr_matmul
from pyg_kd.models.fitted import one_hot

#: Columns of a Gram matrix computed at once.
TILE = 256


def inverse_gram(rows: CSR, cols: CSR, l2: float) -> Tensor:
    r"""The inverse of :math:`R R^\top + \lambda I`, given R by rows and by columns.

    All NaN if the matrix is singular in the precision of the values.
    """
    size, value = len(rows.ptr) - 1, rows.value
    gram = value.new_empty(size, size)
    for tile in torch.arange(size, device=value.device).split(TILE):
        signal = one_hot(tile, value.new_ones(size))
        gram[:, tile] = csr_matmul(*rows, csr_matmul(*cols, signal))
    gram.diagonal().add_(l2)
    info = torch.empty((), dtype=torch.int32, device=gram.device)
    torch.linalg.cholesky_ex(gram, out=(gram, info))
    # A factor cut short by a zero pivot would raise an error instead.
    gram.diagonal().masked_fill_(info != 0, 1.0)
    return torch.cholesky_inverse(gram).masked_fill_(info != 0, torch.nan)


def quadratic_forms(cols: CSR, matrix: Tensor) -> Tensor:
    r"""The quadratic form :math:`r^\top M r` of every column :math:`r` of R, ``[columns]``."""
    total = cols.value.new_zeros(len(cols.ptr) - 1)
    for tile in torch.arange(len(matrix), device=matrix.device).split(TILE):
        own = csr_matmul(*cols, one_hot(tile, cols.value.new_ones(len(matrix))))
        total += (own * csr_matmul(*cols, matrix[:, tile].contiguous())).sum(1)
    return total
