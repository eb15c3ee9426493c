"""The log-sum-exp of a user's scores over the whole catalogue, in tiles.

From the top: the function, its two kernels, and items that are excluded: which, and their places
in the tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from math import e, log, log2
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.checks import require_positive
from pyg_kd.functional.sparse import keep_float32, require_one_device
from pyg_kd.graph import Neighbors, check_ids

#: Scores held at once: 1 MiB on a CPU, to stay in its caches; few large kernels elsewhere.
CPU_ENTRIES, OTHER_ENTRIES = 2**18, 2**24

#: Users scored at once: more would make tiles narrow, and narrow products are slow.
MAX_ROWS = 512

# exp2 takes a third of the time of exp, so all exponents here are binary.
LOG2_E, LN_2 = log2(e), log(2)


def catalogue_logsumexp(
    x_user: Tensor, x_item: Tensor, *, excluded: Tensor | None = None, tile: int | None = None
) -> Tensor:
    r"""Logarithm of the summed exponentials of all scores of a user.

    .. math::
        z_u = \log \sum_{i \notin E_u} e^{\langle x_u, x_i \rangle}

    over the catalogue without the few items :math:`E_u` that are excluded for the user. They
    never enter the sum: subtracting them afterwards would cancel where they dominate it.

    Users are taken in blocks and items in tiles, and the backward pass recomputes the scores.
    Scores of any size are safe.

    Args:
        x_user: Users, ``[B, d]``.
        x_item: The whole catalogue, ``[I, d]``.
        excluded: Pairs of a row of ``x_user`` and an item, integers ``[2, E]``, in any order;
            -1 is padding.
        tile: Items scored at once. By default so many that up to 512 users have ``2**18`` scores
            on a CPU, and ``2**24`` elsewhere.

    Returns:
        ``[B]``, float64 for float64 and float32 otherwise; ``-inf``, without a gradient, for
        a user with no item left.

    Raises:
        ValueError: If the widths differ, there are no items, ``tile`` is not positive, or
            ``excluded`` is not ``[2, E]`` or out of range.

    Example:
        >>> catalogue_logsumexp(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [1.0]]))
        tensor([0.6931, 1.6931])
    """
    if x_user.dim() != 2 or x_item.dim() != 2 or x_user.size(1) != x_item.size(1):
        raise ValueError(
            "'x_user' and 'x_item' must be matrices of one width "
            f"(got {list(x_user.shape)} and {list(x_item.shape)})"
        )
    if x_item.size(0) == 0:
        raise ValueError(f"'x_item' must hold an item (got {list(x_item.shape)})")
    rows = max(min(x_user.size(0), MAX_ROWS), 1)
    if tile is None:
        tile = (CPU_ENTRIES if x_user.device.type == "cpu" else OTHER_ENTRIES) // rows
    require_positive(tile=tile)
    tile, place, count = min(tile, x_item.size(0)), None, None
    if excluded is not None:
        if excluded.dim() != 2 or excluded.size(0) != 2:
            raise ValueError(f"'excluded' must have shape [2, E] (got {list(excluded.shape)})")
        shape = [x_user.size(0), x_item.size(0)]
        place, count = tile_places(excluded[0], excluded[1], shape, MAX_ROWS, tile)
    out: Tensor = _CatalogueLogSumExp.apply(x_user, x_item, tile, place, count)
    return out


class _CatalogueLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_user: Tensor,
        x_item: Tensor,
        tile: int,
        place: Tensor | None,
        count: Tensor | None,
    ) -> Tensor:
        top, total = catalogue_sums(x_user, x_item, tile, place, count)
        ctx.save_for_backward(x_user, x_item, top, total, place, count)
        ctx.tile = tile
        out: Tensor = total.log2().add_(top).mul_(LN_2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_user, x_item, top, total, place, count = ctx.saved_tensors
        # Normalise the softmax through the gradient: one number a user, not one a score.
        weight = (grad / total).masked_fill_(total == 0, 0.0)
        grad_user, grad_item = catalogue_gradients(
            weight, top, x_user, x_item, ctx.tile, place, count
        )
        return grad_user.to(x_user.dtype), grad_item.to(x_item.dtype), None, None, None


def _binary_exponents(x_user: Tensor, x_item: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(torch.promote_types(x_user.dtype, x_item.dtype), torch.float32)
    return x_user.to(dtype) * LOG2_E, x_item.to(dtype)


def _tiles(x_item: Tensor, tile: int, rows: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Tiles of the catalogue: their slice, their rows, and a buffer for ``rows`` users' scores."""
    room = x_item.new_empty(rows * tile)
    for start in range(0, x_item.size(0), tile):
        part = x_item[start : start + tile]
        yield slice(start, start + tile), part, room[: rows * len(part)].view(rows, len(part))


def _excluded(place: Tensor | None, count: Tensor | None) -> Iterator[Tensor | None]:
    """The places to exclude, tile by tile."""
    return repeat(None) if place is None or count is None else iter(place.split(count.tolist()))


def _score(x: Tensor, items: Tensor, scores: Tensor, hidden: Tensor | None) -> Tensor:
    torch.mm(x, items.t(), out=scores)
    if hidden is not None:
        scores.view(-1).index_fill_(0, hidden, -torch.inf)
    return scores


@torch.library.custom_op("pyg_kd::catalogue_sums", mutates_args=())
def catalogue_sums(
    x_user: Tensor,
    x_item: Tensor,
    tile: int,
    place: Tensor | None = None,
    count: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Every user's largest binary exponent, and its sum of powers of two relative to that."""
    x_user, x_item = _binary_exponents(x_user, x_item)
    excluded, lowest = _excluded(place, count), torch.finfo(x_user.dtype).min
    tops, totals = (x_user.new_empty(-(-len(x_item) // tile), len(x_user)) for _ in range(2))
    for rows in range(0, len(x_user), MAX_ROWS):
        users = slice(rows, rows + MAX_ROWS)
        x = x_user[users]
        for k, (_, items, scores) in enumerate(_tiles(x_item, tile, len(x))):
            top, total = tops[k, users], totals[k, users]
            _score(x, items, scores, next(excluded))
            # Finite for fully excluded tiles: avoids -inf - (-inf) = NaN.
            torch.amax(scores, 1, out=top).clamp_(min=lowest)
            torch.sum(scores.sub_(top.unsqueeze(1)).exp2_(), 1, out=total)
    top = tops.amax(0)
    return top, tops.sub_(top).exp2_().mul_(totals).sum(0)


@torch.library.custom_op("pyg_kd::catalogue_gradients", mutates_args=())
def catalogue_gradients(
    weight: Tensor,
    top: Tensor,
    x_user: Tensor,
    x_item: Tensor,
    tile: int,
    place: Tensor | None = None,
    count: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """With ``P_ui = 2**(s_ui - top_u) * weight_u``: ``P @ x_item`` and ``P.T @ x_user``."""
    scaled, x_item = _binary_exponents(x_user, x_item)
    weight, top = weight.to(scaled.dtype).unsqueeze(1), top.unsqueeze(1)
    weighted, excluded = (x_user.to(scaled.dtype) * weight).t(), _excluded(place, count)
    # Products with a short first side are fast, so gradients are computed transposed.
    grad_user, grad_item = scaled.new_zeros(scaled.t().shape), torch.zeros_like(x_item)
    for rows in range(0, len(scaled), MAX_ROWS):
        users = slice(rows, rows + MAX_ROWS)
        x, total, w = scaled[users], grad_user[:, users], weighted[:, users].contiguous()
        for where, items, scores in _tiles(x_item, tile, len(x)):
            _score(x, items, scores, next(excluded)).sub_(top[users]).exp2_()
            total.addmm_(items.t(), scores.t())
            grad_item[where] += (w @ scores).t()
    return grad_user.t().contiguous().mul_(weight), grad_item


@catalogue_sums.register_fake
def _(
    x_user: Tensor,
    x_item: Tensor,
    tile: int,
    place: Tensor | None = None,
    count: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    require_one_device(x_user, x_item, *(t for t in (place, count) if t is not None))
    top = _binary_exponents(x_user, x_item)[0].new_empty(len(x_user))
    return top, torch.empty_like(top)


@catalogue_gradients.register_fake
def _(
    weight: Tensor,
    top: Tensor,
    x_user: Tensor,
    x_item: Tensor,
    tile: int,
    place: Tensor | None = None,
    count: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    hidden = (t for t in (place, count) if t is not None)
    require_one_device(weight, top, x_user, x_item, *hidden)
    user, item = _binary_exponents(x_user, x_item)
    return torch.empty_like(user), torch.empty_like(item)


keep_float32("pyg_kd::catalogue_sums", "pyg_kd::catalogue_gradients")


# Data-dependent output shape: an opaque custom op.
@torch.library.custom_op("pyg_kd::excluded_pairs", mutates_args=())
def excluded_pairs(ptr: Tensor, col: Tensor, rows: Tensor, lists: Tensor) -> Tensor:
    r"""Pairs of a position in ``rows`` and an item that this row has seen or lists.

    Args:
        ptr: The pattern of seen items, int64 ``[U + 1]``.
        col: Seen items, int64.
        rows: Row ids, int64 ``[B]``.
        lists: Item ids listed for each of ``rows``, ``[B, K]``, padded with -1.

    Returns:
        int64 ``[2, E]``, as :func:`~pyg_kd.functional.catalogue_logsumexp` takes it, the
        padding included.

    Example:
        >>> ptr, col = torch.tensor([0, 1, 2]), torch.tensor([7, 9])
        >>> excluded_pairs(ptr, col, torch.tensor([1]), torch.tensor([[3, -1]]))
        tensor([[ 0,  0,  0],
                [ 9,  3, -1]])
    """
    place, seen = Neighbors(ptr, col).of(rows)
    owner = torch.arange(len(rows), device=rows.device).repeat_interleave(lists.size(1))
    columns = torch.cat([place, owner]), torch.cat([seen, lists.flatten().long()])
    return torch.stack(columns)


@excluded_pairs.register_fake
def _(ptr: Tensor, col: Tensor, rows: Tensor, lists: Tensor) -> Tensor:
    require_one_device(ptr, col, rows, lists)
    # Without values their number is unknown, so this is its upper bound.
    return col.new_empty((2, col.numel() + lists.numel()))


# The number of entries depends on the padding: an opaque custom op.
@torch.library.custom_op("pyg_kd::tile_places", mutates_args=())
def tile_places(
    row: Tensor, col: Tensor, shape: list[int], row_block: int, col_tile: int
) -> tuple[Tensor, Tensor]:
    r"""Where entries of a matrix lie when it is computed tile by tile.

    Tiles go from left to right and blocks of rows from top to bottom; the last may be smaller.

    Args:
        row: Rows of the entries, integers ``[E]``.
        col: Their columns, ``[E]``, padded with -1.
        shape: Rows and columns of the matrix.
        row_block: Rows of a block.
        col_tile: Columns of a tile.

    Returns:
        Places within the flattened tiles, int64 ``[E]`` without the padding, sorted by
        tile, and how many fall into each tile, int64 ``[blocks * tiles]``.

    Raises:
        ValueError: If an id is out of range.

    Example:
        >>> tile_places(torch.tensor([0, 1]), torch.tensor([4, 2]), [2, 5], 2, 3)
        (tensor([5, 1]), tensor([1, 1]))
    """
    valid = col != -1
    if not bool(valid.all()):
        row, col = row[valid], col[valid]
    check_ids("excluded[0]", row, shape[0])
    check_ids("excluded[1]", col, shape[1])
    num_tiles = max(-(-shape[1] // col_tile), 1)
    num_regions = -(-shape[0] // row_block) * num_tiles
    if max(*shape, num_regions) < 2**31:  # half of the bytes
        row, col = row.to(torch.int32), col.to(torch.int32)
    block, tile = row // row_block, col // col_tile
    width = (shape[1] - tile * col_tile).clamp_(max=col_tile)
    place = (row - block * row_block).long() * width + (col - tile * col_tile)
    region = block * num_tiles + tile
    # Narrow keys sort in fewer passes.
    narrow = torch.int16 if num_regions < 2**15 else torch.int32
    order = region.to(narrow).sort(stable=True).indices
    return place.index_select(0, order), torch.bincount(region, minlength=num_regions)


@tile_places.register_fake
def _(
    row: Tensor, col: Tensor, shape: list[int], row_block: int, col_tile: int
) -> tuple[Tensor, Tensor]:
    require_one_device(row, col)
    num_regions = -(-shape[0] // row_block) * max(-(-shape[1] // col_tile), 1)
    # Without values the number of entries is unknown, so this is its upper bound.
    return col.new_empty(col.shape, dtype=torch.int64), col.new_empty(
        num_regions, dtype=torch.int64
    )
