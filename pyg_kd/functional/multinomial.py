"""The multinomial likelihood of what was observed, over a whole catalogue."""

from __future__ import annotations

from torch import Tensor

from pyg_kd.functional.catalogue import catalogue_logsumexp
from pyg_kd.functional.sparse import CSR, row_matmul


def multinomial_loss(x_row: Tensor, x_col: Tensor, rows: Tensor, observed: CSR) -> Tensor:
    r"""Negative log-likelihood of the columns observed for some rows.

    .. math::
        L = - \sum_r \sum_{c \in N_r} \log \frac{e^{\langle x_r, x_c \rangle}}
        {\sum_{c'} e^{\langle x_r, x_{c'} \rangle}}

    The scores of all :math:`c \in N_r` add up to one inner product, and the denominator is made
    in tiles: there is never a score for every row and column.

    Args:
        x_row: Vectors of the rows taken, ``[B, d]``.
        x_col: Vectors of all columns, ``[n, d]``.
        rows: Which rows of ``observed`` they are, int64 ``[B]``.
        observed: The columns :math:`N_r` of every row, all of value one.

    Returns:
        A scalar, the sum over the rows.

    Example:
        >>> import torch
        >>> ptr, col = torch.tensor([[0, 0, 2], [0, 1, -1]], dtype=torch.int32)
        >>> observed = CSR(ptr, col[:2], torch.ones(2))
        >>> multinomial_loss(torch.zeros(1, 3), torch.zeros(4, 3), torch.tensor([1]), observed)
        tensor(2.7726)
    """
    observed = observed._replace(value=observed.value.to(x_row.dtype))
    return catalogue_cross_entropy(x_row, x_col, rows, observed, observed.ptr.diff())


def catalogue_cross_entropy(
    x_row: Tensor, x_col: Tensor, rows: Tensor, target: CSR, mass: Tensor
) -> Tensor:
    r"""Cross-entropy of the softmax of some rows over all columns with sparse targets.

    .. math::
        L = \sum_r \Bigl[ m_r \log \sum_c e^{\langle x_r, x_c \rangle}
        - \Bigl\langle x_r, \sum_c q_{rc} x_c \Bigr\rangle \Bigr], \qquad
        m_r = \sum_c q_{rc}

    The target is linear in the scores: one sparse product, and no scores of its own.

    Args:
        x_row: Vectors of the rows taken, ``[B, d]``.
        x_col: Vectors of all columns, ``[n, d]``.
        rows: Which rows of ``target`` they are, int64 ``[B]``.
        target: :math:`q` of every row.
        mass: :math:`m` of every row.

    Returns:
        A scalar, the sum over the rows.
    """
    lse = catalogue_logsumexp(x_row, x_col)
    hits = (x_row * row_matmul(target, rows, x_col)).sum(dtype=lse.dtype)
    return (mass[rows] * lse).sum() - hits
