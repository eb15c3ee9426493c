"""The unseen items of every user in a student's order."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.functional.ranking import MAX_TILE, rank_unseen
from pyg_kd.functional.sparse import keep_float32, require_one_device
from pyg_kd.graph import Neighbors

#: Scores that exist at once.
BLOCK_ENTRIES = 2**18


# Settling ties looks at values, so shapes end at the operator.
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

    Users are taken in blocks and items in tiles. What is not finite in a representation
    counts as zero: it has to show in a loss, and not to stop a ranking.

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
        row_block=max(BLOCK_ENTRIES // tile, 1),
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
