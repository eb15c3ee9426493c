"""Exact top-k of unseen columns, block by block, with a defined order among equals.

:func:`rank_unseen` takes any scores, :func:`top_unseen` inner products; :func:`stable_topk` is
the top-k of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf, isqrt
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_kd.checks import require_count
from pyg_kd.functional.sparse import keep_float32, require_one_device
from pyg_kd.graph import Neighbors, as_ids, check_ids

#: ``score_block(rows, cols)`` returns the scores ``[len(rows), len(cols)]`` of some
#: rows (int64 ids) and a range of columns, in a tensor that may be overwritten; a view of
#: another tensor is copied first.
ScoreBlock = Callable[[Tensor, slice], Tensor]

#: ``on_tile(rows, start, scores)`` gets the scores ``[len(rows), t]`` of the columns from ``start``
#: on, and neither changes nor keeps them.
OnTile = Callable[[Tensor, int, Tensor], object]

#: Scores in a block of :func:`rank_unseen`: they stay in the caches of a CPU while they are
#: masked, reduced and searched, and still fill a GPU.
BLOCK_ENTRIES = 2**21

#: Scores in a block of :func:`top_unseen`.
PRODUCT_ENTRIES = 2**18

#: Columns scored at once.
MAX_TILE = 2**16


class Ranked(NamedTuple):
    """Ranked columns of some rows.

    Args:
        rows: Row ids, int64, shape ``[b]``.
        values: Scores, descending, shape ``[b, k]``; padded with ``-inf``.
        ids: Column ids, int64, shape ``[b, k]``; padded with ``-1``.
    """

    rows: Tensor
    values: Tensor
    ids: Tensor


def rank_unseen(
    score_block: ScoreBlock,
    num_rows: int,
    num_cols: int,
    k: int,
    *,
    seen: Neighbors | None = None,
    rows: Tensor | None = None,
    row_block: int | None = None,
    col_tile: int | None = None,
    progress: Callable[[int], object] | None = None,
    on_tile: OnTile | None = None,
) -> Iterator[Ranked]:
    r"""Rank the columns that each row has not seen, and keep the first ``k``.

    The order is by score, descending, and among equal scores by column id,
    ascending. It holds exactly, at the ``k``-th place too, and does not depend
    on ``row_block`` and ``col_tile``. No tensor has more than
    ``row_block * col_tile`` entries.

    Args:
        score_block: Returns the scores of some rows and a range of columns,
            shape ``[len(rows), len(cols)]``. The returned block is overwritten,
            unless it is a view. Half precision is ranked in float32.
        num_rows: Number of rows in all.
        num_cols: Number of columns in all.
        k: Length of the lists. A row with fewer unseen columns is padded with
            id ``-1`` and value ``-inf``; a score of ``-inf`` is never listed.
        seen: The columns left out, for every row.
        rows: The rows to rank, int64, shape ``[n]``. All of them by default.
        row_block: Rows ranked at once.
        col_tile: Columns scored at once.
        progress: Called with the number of rows done, after each block.
        on_tile: Sees every tile of scores before it is ranked, those of seen columns being
            ``-inf``.

    Returns:
        An iterator over blocks :class:`Ranked`, in the order of ``rows``.

    Raises:
        ValueError: If a size is not a positive integer, ``rows`` or ``seen`` is out of range,
            ``seen`` has another number of rows, or the scores have another shape or are NaN.
        TypeError: If ``rows`` are not integers, ``seen`` is not a pattern of neighbours, or
            ``score_block`` is not a function that returns floating point tensors.

    Example:
        >>> scores = torch.tensor([[0.5, 2.0, 2.0, 1.0]])
        >>> ranking = rank_unseen(lambda rows, cols: scores[rows, cols], 1, 4, k=3)
        >>> next(ranking).ids
        tensor([[1, 2, 3]])
    """
    require_count(0, num_rows=num_rows)
    require_count(num_cols=num_cols, k=k)
    col_tile = min(num_cols, MAX_TILE) if col_tile is None else col_tile
    require_count(col_tile=col_tile)
    row_block = max(1, BLOCK_ENTRIES // col_tile) if row_block is None else row_block
    require_count(row_block=row_block)
    if not callable(score_block):
        raise TypeError(f"'score_block' must be a function (got {type(score_block).__name__})")
    if seen is not None:
        _check_seen(seen, num_rows, num_cols)
    device = None if seen is None else seen.ptr.device
    if rows is None:
        rows = torch.arange(num_rows, device=device)
    rows = as_ids("rows", rows, num_rows, rows.device if isinstance(rows, Tensor) else device)
    blocks = rows.split(min(int(row_block), len(rows))) if len(rows) else ()
    watched = (progress, on_tile)
    return _rank_blocks(score_block, blocks, num_cols, int(k), seen, int(col_tile), *watched)


def _check_seen(seen: Neighbors, num_rows: int, num_cols: int) -> None:
    if not isinstance(seen, Neighbors):
        raise TypeError(f"'seen' must be Neighbors (got {type(seen).__name__})")
    if seen.ptr.numel() != num_rows + 1:
        raise ValueError(f"'seen' must have {num_rows} rows (got {seen.ptr.numel() - 1})")
    check_ids("seen.col", seen.col, num_cols)


@torch.no_grad()
def _rank_blocks(
    score_block: ScoreBlock,
    blocks: tuple[Tensor, ...],
    num_cols: int,
    k: int,
    seen: Neighbors | None,
    col_tile: int,
    progress: Callable[[int], object] | None,
    on_tile: OnTile | None,
) -> Iterator[Ranked]:
    for rows in blocks:
        hidden = None if seen is None else seen.of(rows)
        best: tuple[Tensor, Tensor] | None = None
        for start in range(0, num_cols, col_tile):
            stop = min(start + col_tile, num_cols)
            scores = score_block(rows, slice(start, stop))
            check_scores(scores, len(rows), stop - start)
            scores = _unseen_scores(scores, hidden, start, stop)
            if on_tile is not None:
                on_tile(rows, start, scores)
            values, ids = stable_topk(scores, k)
            # Earlier tiles hold lower ids, so a stable sort keeps ties in order.
            best = _merge(best, values, ids + start, k)
        assert best is not None
        values, ids = best
        ids = ids.masked_fill(values == -inf, -1)
        if ids.size(1) < k:
            values = torch.nn.functional.pad(values, (0, k - ids.size(1)), value=-inf)
            ids = torch.nn.functional.pad(ids, (0, k - ids.size(1)), value=-1)
        yield Ranked(rows, values, ids)
        if progress is not None:
            progress(rows.numel())


def check_scores(scores: object, num_rows: int, num_cols: int) -> None:
    """Raise an error unless ``scores`` are a floating point tensor ``[num_rows, num_cols]``."""
    if not isinstance(scores, Tensor):
        raise TypeError(f"'score_block' must return a tensor (got {type(scores).__name__})")
    if not scores.is_floating_point():
        raise TypeError(f"'score_block' must return floating point scores (got {scores.dtype})")
    if scores.shape != (num_rows, num_cols):
        raise ValueError(
            f"'score_block' must return scores of shape [{num_rows}, {num_cols}] "
            f"(got {list(scores.shape)})"
        )


def _unseen_scores(
    scores: Tensor, hidden: tuple[Tensor, Tensor] | None, start: int, stop: int
) -> Tensor:
    if scores.dtype.itemsize < 4:
        scores = scores.float()
    if hidden is None:
        return scores
    row, col = hidden
    inside = (col >= start) & (col < stop)
    row, col = row[inside], col[inside] - start
    if scores[row, col].isnan().any():  # the mask would hide it
        raise ValueError("'score_block' returned a score that is NaN")
    if _shares_memory(scores):
        scores = scores.clone(memory_format=torch.contiguous_format)
    scores[row, col] = -inf
    return scores


def _shares_memory(x: Tensor) -> bool:
    """Whether writing to ``x`` may change a tensor of the model, or several rows at once."""
    # Tensors of the inference mode do not tell that they are views.
    return x._is_view() or x.untyped_storage().nbytes() != x.nbytes


def _merge(
    best: tuple[Tensor, Tensor] | None, values: Tensor, ids: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    if best is None:
        return values, ids
    values, order = torch.cat([best[0], values], dim=1).sort(dim=1, descending=True, stable=True)
    return values[:, :k], torch.cat([best[1], ids], dim=1).gather(1, order)[:, :k]


def stable_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""The top ``k`` of every row, by score descending, then by position ascending.

    Args:
        scores: Floating point, shape ``[n, m]``.
        k: Length of the lists; ``min(k, m)`` are returned.

    Returns:
        Values and int64 positions, both of shape ``[n, min(k, m)]``.

    Raises:
        ValueError: If a score is NaN.

    Example:
        >>> stable_topk(torch.tensor([[1.0, 3.0, 1.0, 1.0]]), k=2)[1]
        tensor([[1, 0]])
    """
    k = min(k, scores.size(1))
    # One more than asked for reveals a tie at the k-th place.
    values, ids = _candidates(scores, min(k + 1, scores.size(1)))
    if values.isnan().any():  # NaN sorts first, so it is always among them
        raise ValueError("'score_block' returned a score that is NaN")
    equal = values[:, 1:] == values[:, :-1]
    values, ids = values[:, :k], ids[:, :k]
    tied = equal.any(dim=1).nonzero().squeeze(1)
    if tied.numel():
        values, ids = values.clone(), ids.clone()
        at_end = equal[tied, k - 1 :].any(dim=1) & (values[tied, -1] > -inf)
        cut = tied[at_end]
        ids[cut] = _first_of_equals(scores[cut], values[cut, -1:], k)
        ascending = ids[tied].sort(dim=1).values
        again = scores[tied].gather(1, ascending).sort(dim=1, descending=True, stable=True)
        values[tied], ids[tied] = again.values, ascending.gather(1, again.indices)
    return values, ids


def _candidates(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """A top-k with exact values and an arbitrary choice among equals."""
    n, m = scores.shape
    depth = isqrt(m // k)
    if depth < 4:
        return scores.topk(k, dim=1)
    # Columns j, j + width, j + 2 width, ... form a chunk. The k chunks with the largest maxima
    # hold k values that nothing outside of them exceeds.
    width = m // depth
    chunk_max = scores[:, : width * depth].view(n, depth, width).amax(dim=1)
    chunk = chunk_max.topk(k, dim=1, sorted=False).indices
    steps = torch.arange(0, width * depth, width, device=scores.device)
    ids = (chunk.unsqueeze(2) + steps).view(n, k * depth)
    rest = torch.arange(width * depth, m, device=scores.device).expand(n, -1)
    ids = torch.cat([ids, rest], dim=1)
    values, place = scores.gather(1, ids).topk(k, dim=1)
    return values, ids.gather(1, place)


def _first_of_equals(scores: Tensor, bound: Tensor, k: int) -> Tensor:
    """Positions ``[n, k]`` of all scores above ``bound`` and of the first that equal it."""
    above, equal = scores > bound, scores == bound
    missing = k - above.sum(dim=1, keepdim=True)
    keep = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= missing))
    return keep.nonzero()[:, 1].view(-1, k)


# Settling ties depends on values: an opaque custom op.
@torch.library.custom_op("pyg_kd::top_unseen", mutates_args=())
def top_unseen(
    x_user: Tensor,
    x_item: Tensor,
    ptr: Tensor,
    col: Tensor,
    k: int,
    needed: Tensor | None = None,
) -> Tensor:
    r"""The best ``k`` items of every user by inner product, those it has seen left out.

    Users are taken in blocks and items in tiles. Values that are not finite count as zero: a
    diverging student should show in its loss, not stop a ranking.

    Args:
        x_user: ``[U, d]``.
        x_item: ``[I, d]``.
        ptr: The pattern of seen items, int64 ``[U + 1]``.
        col: Seen items, int64.
        k: Length of the lists.
        needed: The users to rank for, bool ``[U]``; the others get -1. All by default.

    Returns:
        Item ids, best first, int32 ``[U, k]``, padded with -1.
    """
    x_user, x_item = (torch.nan_to_num(x, 0.0, 0.0, 0.0) for x in (x_user, x_item))
    num_users, num_items = x_user.size(0), x_item.size(0)
    tile = min(num_items, MAX_TILE)
    ranked = torch.full((num_users, k), -1, dtype=torch.int32, device=x_user.device)
    for block in rank_unseen(
        lambda rows, cols: x_user[rows] @ x_item[cols].t(),
        num_users,
        num_items,
        k,
        seen=Neighbors(ptr, col),
        rows=None if needed is None else needed.nonzero().squeeze(1),
        row_block=max(PRODUCT_ENTRIES // tile, 1),
        col_tile=tile,
    ):
        ranked[block.rows] = block.ids.to(torch.int32)
    return ranked


@top_unseen.register_fake
def _(
    x_user: Tensor,
    x_item: Tensor,
    ptr: Tensor,
    col: Tensor,
    k: int,
    needed: Tensor | None = None,
) -> Tensor:
    require_one_device(x_user, x_item, ptr, col, *(() if needed is None else (needed,)))
    return x_user.new_empty((x_user.size(0), k), dtype=torch.int32)


keep_float32("pyg_kd::top_unseen")
