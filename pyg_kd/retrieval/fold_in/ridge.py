"""Ridge regression of many small histories at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.fold_in.histories import Histories
from pyg_kd.retrieval.tables import Table

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

#: Numbers gathered from a table at once.
GATHERED = 2**20


def gram(table: Table) -> Float64:
    """The inner products of the columns of a table, float64 ``[d, d]``, in one pass over it."""
    total = np.zeros((table.dim, table.dim))
    step = max(GATHERED // table.dim, 1)
    for start in range(0, len(table), step):
        block = table.block(start, min(start + step, len(table))).astype(np.float64)
        total += block.T @ block
    return total


def penalised_root(total: Float64, penalty: float) -> Float64:
    r"""The symmetric root :math:`R` of :math:`(G + \rho \, \mathrm{tr}(G) / d \; I)^{-1}`.

    Directions in which the matrix vanishes within rounding are left out, as in a pseudo-inverse;
    of a matrix of zeros nothing is left.
    """
    value, vector = np.linalg.eigh(total)
    value = value + penalty * np.trace(total) / len(total)
    kept = value > max(float(value[-1]), 0.0) * 1e-12
    factor = np.zeros_like(value)
    factor[kept] = value[kept] ** -0.5
    root: Float64 = (vector * factor) @ vector.T
    return root


def solve_histories(table: Table, histories: Histories, root: Array, alpha: float) -> Float64:
    r"""Vectors of users by regularised least squares over their items.

    .. math::
        u = (1 + \alpha) R \left(I + \alpha \sum_{i \in H} w_i z_i z_i^\top\right)^{-1}
        \sum_{i \in H} w_i z_i, \qquad z_i = R y_i

    Whichever is smaller is solved: as many equations as ``d``, or as a history has items.

    Args:
        table: Vectors :math:`y` of the items.
        histories: The items of ``n`` users; their weights are :math:`w`.
        root: :math:`R`, symmetric, ``[d, d]``.
        alpha: What an interaction adds to the weight of its square error.

    Returns:
        float64 ``[n, d]``; zeros for an empty history.
    """
    root = root.astype(np.float64)
    solved = np.zeros((len(histories.ptr) - 1, table.dim))
    for users in _of_like_length(histories.degree, table.dim):
        solved[users] = _solve(*_padded(table, histories.of(users), root), alpha)
    vectors: Float64 = (1 + alpha) * (solved @ root)
    return vectors


def _solve(z: Float64, w: Float64, alpha: float) -> Array:
    """Solve one block: rows ``[b, m, d]`` and their weights ``[b, m]``."""
    found: Array
    right: Array = np.matmul(w[:, None, :], z)[:, 0]
    if alpha == 0:
        return right
    z = z * np.sqrt(alpha * w)[:, :, None]
    turned = z.transpose(0, 2, 1)
    size = min(z.shape[1:])
    if size == z.shape[2]:
        found = np.linalg.solve(turned @ z + np.eye(size), right[..., None])[..., 0]
        return found
    # (I + Z'Z)^-1 g = g - Z' (I + Z Z')^-1 Z g.
    inner = np.linalg.solve(z @ turned + np.eye(size), z @ right[..., None])
    found = right - (turned @ inner)[..., 0]
    return found


def _padded(table: Table, part: Histories, root: Float64) -> tuple[Float64, Float64]:
    """Rows in the coordinates of ``root`` ``[b, m, d]``, and weights, both padded by zeros."""
    row, place = part.row, np.arange(len(part.col)) - np.repeat(part.ptr[:-1], part.degree)
    shape = len(part.ptr) - 1, int(part.degree.max())
    z, w = np.zeros((*shape, table.dim)), np.zeros(shape)
    z[row, place] = table.rows(part.col).astype(np.float64) @ root
    w[row, place] = 1.0 if part.weight is None else part.weight
    return z, w


def _of_like_length(degree: Array, dim: int) -> Iterator[Array]:
    """Users in blocks that hold about ``GATHERED`` numbers when padded; empty ones left out."""
    order = np.argsort(degree, kind="stable")[::-1]
    order = order[degree[order] > 0]
    start = 0
    while start < len(order):
        longest = int(degree[order[start]])
        block = order[start : start + max(GATHERED // (longest * dim), 1)]
        block = block[2 * degree[block] >= longest]
        yield block
        start += len(block)
