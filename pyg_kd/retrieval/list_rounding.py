"""Tables of four bits, rounded so that lists change least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_choice
from pyg_kd.retrieval.scales import LARGEST, STEPS, stored_scales, unit_of
from pyg_kd.retrieval.search import top_k
from pyg_kd.retrieval.seen import Seen
from pyg_kd.retrieval.tables import DTYPES, Float32, Table

Array = npt.NDArray[Any]

#: Users whose lists tell how items are rounded, at most.
SAMPLE = 20_000

#: Length of the lists, and over how many places the weight of a place falls to 1/e.
LENGTH, TEMPERATURE = 150, 40.0

#: Weight of all users in the curvature of an item beside those who list it, and of all items in
#: that of a user beside those on the list.
EVERYONE, EVERYTHING = 0.1, 0.03

#: Rounds of coordinate descent; the third changes next to nothing.
ROUNDS = 3

#: Entries of an array that is held at once.
ENTRIES = 2**20


def tables_at(
    x_user: npt.ArrayLike, x_item: npt.ArrayLike, dtype: str, seen: Seen | None = None
) -> tuple[Table, Table]:
    r"""The tables of users and items at a precision, with as little change to lists as possible.

    Above four bits, every value is rounded to the nearest
    (:meth:`Table.of <pyg_kd.retrieval.Table.of>`). Items of four bits are rounded for the users
    who list them: the integers of a row :math:`\hat y_i` minimise

    .. math::
        (\hat y_i - y_i)^\top \Big( \sum_u w_{ui} x_u x_u^\top
        + \frac{\epsilon}{U} \sum_u x_u x_u^\top \Big) (\hat y_i - y_i)

    where :math:`w_{ui}` falls as :math:`e^{-r / 40}` with the rank :math:`r` of the item on the
    first 150 places of the user's list, and sums to 1 for a user; :math:`\epsilon = 0.1`. Then
    users make up for it: the integers of :math:`\hat x_u` minimise

    .. math::
        \sum_i w_{ui} (\langle \hat x_u, \hat y_i \rangle - \langle x_u, y_i \rangle - c_u)^2
        + \frac{\epsilon}{I} \sum_i
        (\langle \hat x_u, \hat y_i \rangle - \langle x_u, y_i \rangle)^2

    with :math:`\epsilon = 0.03`, whatever the constant :math:`c_u`, which changes no list. Both
    by coordinate descent from the nearest integers, which keeps the largest value of a row: its
    scale can be told from it, so that what the tables give back goes into ``Table.of`` unchanged.
    Second-order rounding is that of `"Optimal Brain Compression"
    <https://arxiv.org/abs/2208.11580>`_; curvatures of lists are this package's choice. Tables
    whose items are multiples of their scales already stay as they are.

    Args:
        x_user: Vectors of the users, floating point ``[U, d]``.
        x_item: Vectors of the items, ``[I, d]``.
        dtype: ``"float32"``, ``"float16"``, ``"int8"`` or ``"int4"``.
        seen: What users have seen, which is left out of their lists.

    Returns:
        Both tables.

    Raises:
        TypeError: If vectors are not floating point.
        ValueError: If shapes don't fit, values are not finite, or ``dtype`` is unknown.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x_user, x_item = (rng.normal(size=(n, 6)).astype(np.float32) for n in (50, 400))
        >>> nearest = Table.of(x_user, "int4"), Table.of(x_item, "int4")
        >>> lists = [top_k(x_user, Table.of(x_item), 10)[0]]
        >>> for users, items in (nearest, tables_at(x_user, x_item, "int4")):
        ...     lists.append(top_k(users.block(0, 50), items, 10)[0])
        >>> kept = [sum(map(np.isin, found, lists[0])).sum() for found in lists[1:]]
        >>> bool(kept[1] > kept[0])
        True
    """
    require_choice(DTYPES, dtype=dtype)
    full = Table.of(x_user, name="x_user"), Table.of(x_item, name="x_item")
    if full[0].dim != full[1].dim:
        raise ValueError(
            f"'x_user' and 'x_item' must have one width (got {full[0].dim} and {full[1].dim})"
        )
    users, items = (Table.of(t.values, dtype) for t in full)
    lossless = np.array_equal(items.block(0, len(items)), full[1].values)
    if dtype != "int4" or lossless or not len(users):
        return users, items
    items = Table.of(_descended(full[1].values.shape, _by_items(full, seen)), dtype)
    x_user = _descended(full[0].values.shape, _by_users(full, items, seen))
    return Table.of(x_user, dtype), items


class _Rounding(NamedTuple):
    """Rows, float32 ``[b, d]``, and the curvatures of their losses, ``[b, d, d]``."""

    rows: Array
    x: Float32
    curvature: Float32


def _by_items(full: tuple[Table, Table], seen: Seen | None) -> Iterator[_Rounding]:
    """Items; those that are listed about as often are taken together."""
    sample = np.arange(len(full[0]))
    sample = sample[:: max(1, -(-len(sample) // SAMPLE))]
    users, lists = full[0].rows(sample), _lists(full, sample, seen)
    row, place = np.nonzero(lists >= 0)
    item = lists[row, place]
    order = np.argsort(item, kind="stable")
    user, weight = row[order], np.sqrt(_weights(lists.shape[1])[place[order]])
    degree = np.bincount(item, minlength=len(full[1]))
    begin = np.cumsum(degree) - degree
    everyone = (np.float32(EVERYONE / len(users)) * users.T) @ users
    size = np.ceil(np.log2(np.maximum(degree, 1))).astype(np.int64)  # of a power of two
    for power in np.unique(size):
        width = 2 ** int(power)
        for items in _blocks(np.flatnonzero(size == power), full[1].dim * max(width, full[1].dim)):
            place = np.arange(width)
            inside = place < degree[items, None]
            entry = np.where(inside, begin[items, None] + place, 0)
            listing = users[user[entry]] * np.where(inside, weight[entry], np.float32(0))[..., None]
            curvature = (listing.swapaxes(1, 2) @ listing + everyone).astype(np.float32)
            yield _Rounding(items, full[1].rows(items), curvature)


def _by_users(full: tuple[Table, Table], items: Table, seen: Seen | None) -> Iterator[_Rounding]:
    """Users, fitted to items that have been rounded."""
    wide, exact = items.block(0, len(items)), full[1].values
    share = np.float32(EVERYTHING / len(items))
    everything = share * (wide.T @ wide), share * (wide.T @ exact)
    for users in _blocks(np.arange(len(full[0])), full[0].dim * max(LENGTH, full[0].dim)):
        lists = _lists(full, users, seen)
        weight = np.where(lists >= 0, _weights(lists.shape[1]), np.float32(0))[..., None]
        weight /= np.maximum(weight.sum(1, keepdims=True), np.float32(1e-9))
        rounded, before = wide[lists], exact[lists]
        rounded -= (weight * rounded).sum(1, keepdims=True)  # a constant changes no list
        left = (weight * rounded).swapaxes(1, 2)
        curvature = left @ rounded + everything[0]
        aim = (left @ before + everything[1]) @ full[0].rows(users)[..., None]
        fitted = np.linalg.solve(curvature.astype(np.float64), aim)[..., 0]
        yield _Rounding(users, fitted.astype(np.float32), curvature)


def _descended(shape: tuple[int, ...], parts: Iterator[_Rounding]) -> Float32:
    """Rows of integers times scales that a table stores, float32 ``[n, d]``."""
    found = np.zeros(shape, np.float32)
    for rows, x, curvature in parts:
        top, least = np.abs(x).max(1), np.full(len(rows), np.inf)
        unit = unit_of(top / np.float32(STEPS["int4"][0]))
        for step in STEPS["int4"]:
            stored = stored_scales(top / np.float32(step), unit)
            rounded, loss = _descend(x, stored.astype(np.float32) * np.float32(unit), curvature)
            better = loss < least
            least[better] = loss[better]
            found[rows[better]] = rounded[better]
    return found


def _descend(x: Float32, scale: Float32, curvature: Float32) -> tuple[Float32, Float32]:
    """Rows rounded by coordinate descent, ``[b, d]``, and their losses, ``[b]``."""
    largest = LARGEST["int4"]
    scale = np.where(scale > 0, scale, np.float32(1))
    codes = np.rint(x / scale[:, None]).clip(-largest, largest)
    error = x - codes * scale[:, None]
    kept = np.abs(x).argmax(1)
    for _ in range(ROUNDS):
        for j in range(x.shape[1]):
            own = curvature[:, j, j]
            pull = np.einsum("bk,bk->b", error, curvature[:, j]) - error[:, j] * own
            aim = x[:, j] + pull / np.where(own > 0, own, np.float32(1))
            code = np.rint(aim / scale).clip(-largest, largest)
            codes[:, j] = np.where(kept == j, codes[:, j], code)
            error[:, j] = x[:, j] - codes[:, j] * scale
    loss = np.einsum("bj,bj->b", (error[:, None] @ curvature)[:, 0], error)
    return codes * scale[:, None], loss


def _lists(full: tuple[Table, Table], users: Array, seen: Seen | None) -> Array:
    hidden = None if seen is None else seen.of(users)
    return top_k(full[0].rows(users), full[1], min(LENGTH, len(full[1])), hidden=hidden)[0]


def _weights(length: int) -> Float32:
    falling = np.exp(-np.arange(length, dtype=np.float32) / np.float32(TEMPERATURE))
    weight: Float32 = falling / falling.sum()
    return weight


def _blocks(rows: Array, entries: int) -> Iterator[Array]:
    """Rows in parts, of which each row takes so many entries."""
    step = max(ENTRIES // entries, 1)
    return (rows[start : start + step] for start in range(0, len(rows), step))
