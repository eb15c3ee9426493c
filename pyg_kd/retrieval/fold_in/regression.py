"""Linear maps from the items of a user to the user's vector, fitted on known users."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.fold_in.histories import Histories, weighted_sums
from pyg_kd.retrieval.tables import Float32, Table

Array = npt.NDArray[Any]

#: The shortest history of each group of lengths that has a map of its own.
BOUNDS = (1, 2, 3, 5, 8, 13, 25, 50)

#: Users by whom maps are fitted, at most.
MOST_USERS = 50_000

#: Penalty, relative to the mean square of the inputs.
PENALTY = 1e-3


class Maps(NamedTuple):
    """Maps by the length of a history.

    Args:
        bounds: The shortest history of each group, int64 ``[g]``.
        maps: A map of each group, float32 ``[g, d, d]``.
        offsets: A constant of each group, float32 ``[g, d]``.
    """

    bounds: Array
    maps: Array
    offsets: Array


def group_of(degree: Array, bounds: Array) -> Array:
    """The group of each history by its length, int64 ``[n]``; the first for empty ones."""
    group: Array = np.maximum(np.searchsorted(bounds, degree, side="right") - 1, 0)
    return group


def apply_maps(table: Table, histories: Histories, maps: Maps) -> Float32:
    r"""The vectors :math:`W_g z_u + o_g`, float32 ``[n, d]``, with :func:`inputs` :math:`z`."""
    z, group = inputs(table, histories), group_of(histories.degree, maps.bounds)
    vectors = maps.offsets[group].astype(np.float32)
    for one in np.unique(group):
        vectors[group == one] += z[group == one] @ maps.maps[one].T
    return vectors


def inputs(table: Table, histories: Histories) -> Float32:
    r"""Inputs of the maps, :math:`|H|^{-1/2} \sum_{i \in H} w_i y_i`, float32 ``[n, d]``."""
    factor = np.sqrt(np.maximum(histories.degree, 1)).astype(np.float32)
    return weighted_sums(table, histories) / factor[:, None]


def fit_maps(table: Table, x_user: Table, histories: Histories, rng: np.random.Generator) -> Maps:
    r"""Fit the maps by ridge regression.

    For each group of lengths, every user's history is cut to a length of the group (if it is not
    shorter anyway), and the map that finds the user's vector from the items left is fitted. So
    the map knows how little a few items tell: the fewer, the closer to the mean user.

    Args:
        table: Vectors of the items.
        x_user: Vectors of ``n`` users, ``[n, d]``.
        histories: Their items.
        rng: Draws the items that are kept, and users, if there are more than ``MOST_USERS``.
    """
    filled = rng.permutation(np.flatnonzero(histories.degree))[:MOST_USERS]
    histories, wanted = histories.of(filled), x_user.rows(filled).astype(np.float64)
    found = []
    for place, low in enumerate(BOUNDS):
        kept = histories
        if place + 1 < len(BOUNDS):  # in the last group nothing is cut
            longest = rng.integers(low, BOUNDS[place + 1], len(filled))
            kept = cut(histories, longest, rng)[0]
        found.append(fit_linear(inputs(table, kept).astype(np.float64), wanted))
    maps, offsets = (np.stack(part).astype(np.float32) for part in zip(*found, strict=True))
    return Maps(np.array(BOUNDS), maps, offsets)


def cut(
    histories: Histories, longest: Array, rng: np.random.Generator
) -> tuple[Histories, Histories]:
    """At most ``longest`` random items of each user, int64 ``[n]``, and the rest."""
    row = histories.row
    order = np.argsort(row + 0.999 * rng.random(len(row)))  # of one user after the other
    place = np.empty(len(row), np.int64)
    place[order] = np.arange(len(row)) - np.repeat(histories.ptr[:-1], histories.degree)
    first = place < np.repeat(longest, histories.degree)
    return histories.only(first), histories.only(~first)


def fit_linear(z: Array, x: Array, penalty: float = PENALTY) -> tuple[Array, Array]:
    """The map ``[d, F]`` and constant ``[d]`` by which inputs ``[n, F]`` foretell ``[n, d]``.

    The penalty is relative to the mean square of the inputs; the constant bears none.
    """
    if not len(z):
        return np.zeros((x.shape[1], z.shape[1])), np.zeros(x.shape[1])
    mean_z, mean_x = z.mean(0), x.mean(0)
    centred = z - mean_z
    square = centred.T @ centred
    scale = float((z**2).sum()) / z.shape[1]
    ridge = penalty * scale if scale > 0 else 1.0
    found = np.linalg.solve(square + ridge * np.eye(len(square)), centred.T @ (x - mean_x)).T
    return found, mean_x - found @ mean_z
