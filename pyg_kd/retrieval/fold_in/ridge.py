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


def inverse_root(matrix: Float64) -> Float64:
    r"""The symmetric root of the inverse, :math:`M^{-1/2}`, of a positive definite matrix.

    Directions in which the matrix vanishes within rounding are left out, as in a pseudo-inverse.
    """
    value, vector = np.linalg.eigh(matrix)
    kept = value > max(float(value[-1]), 0.0) * 1e-12
    factor = np.zeros_like(value)
    factor[kept] = value[kept] ** -0.5
    root: Float64 = (vector * factor) @ vector.T
    return root


def solve_histories(
    table: Table, histories: Histories, root: Array, center: Array, alpha: float, target: float
) -> Float64:
    r"""Vectors of users, regularised least squares over their items.

    .. math::
        u = c + R v, \qquad v = \left(I + \alpha \sum_h w_h z_h z_h^\top\right)^{-1}
        \sum_h w_h \left(t - \alpha \langle y_h, c \rangle\right) z_h, \qquad z_h = R^\top y_h

    Whichever is smaller is solved for: as many equations as ``d``, or as a history has items.

    Args:
        table: Vectors :math:`y` of the items.
        histories: The items of ``n`` users; their weights are :math:`w`.
        root: :math:`R`, ``[d, r]``.
        center: :math:`c`, ``[d]``.
        alpha: What an interaction adds to the weight of its square error.
        target: :math:`t`.

    Returns:
        float64 ``[n, d]``; ``center`` for an empty history.
    """
    root, center = root.astype(np.float64), center.astype(np.float64)
    solved = np.zeros((len(histories.ptr) - 1, root.shape[1]))
    for users in _of_like_length(histories.degree, table.dim):
        z, w, raw = _padded(table, histories.of(users), root, center)
        solved[users] = _solve(z, w, target - alpha * raw, alpha)
    vectors: Float64 = center + solved @ root.T
    return vectors


def _solve(z: Float64, w: Float64, target: Float64, alpha: float) -> Array:
    """Solve one block: ``z`` is ``[b, m, r]``, weights and targets ``[b, m]``."""
    found: Array
    right: Float64 = np.matmul((w * target)[:, None, :], z)[:, 0]
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


def _padded(
    table: Table, part: Histories, root: Float64, center: Float64
) -> tuple[Float64, Float64, Float64]:
    """Rows in the coordinates of ``root``, weights, and scores of ``center``, padded by zeros."""
    row, place = part.row, np.arange(len(part.col)) - np.repeat(part.ptr[:-1], part.degree)
    shape = len(part.ptr) - 1, int(part.degree.max())
    y = table.rows(part.col).astype(np.float64)
    z, w, raw = np.zeros((*shape, root.shape[1])), np.zeros(shape), np.zeros(shape)
    z[row, place], raw[row, place] = y @ root, y @ center
    w[row, place] = 1.0 if part.weight is None else part.weight
    return z, w, raw


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
