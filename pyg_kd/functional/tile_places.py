"""Entries of a large matrix, sorted by the blocks and tiles in which it is computed."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.functional.sparse import require_one_device
from pyg_kd.graph import check_ids


# How many entries there are depends on the padding, so shapes end at the operator.
@torch.library.custom_op("pyg_kd::tile_places", mutates_args=())
def tile_places(
    row: Tensor, col: Tensor, shape: list[int], row_block: int, col_tile: int
) -> tuple[Tensor, Tensor]:
    r"""Where entries of a matrix lie, given that it is made tile by tile.

    Tiles go from left to right, blocks of rows from top to bottom; the last ones may be smaller.

    Args:
        row: Rows of the entries, integers ``[E]``.
        col: Their columns, ``[E]``; -1 is no entry.
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
    row, col = row[valid].long(), col[valid].long()
    check_ids("excluded[0]", row, shape[0])
    check_ids("excluded[1]", col, shape[1])
    num_tiles = max(-(-shape[1] // col_tile), 1)
    num_regions = -(-shape[0] // row_block) * num_tiles
    tile = col.div(col_tile, rounding_mode="floor")
    width = (shape[1] - tile * col_tile).clamp_(max=col_tile)
    place = row.remainder(row_block) * width + col - tile * col_tile
    region = row.div(row_block, rounding_mode="floor") * num_tiles + tile
    # Narrow keys sort in fewer passes.
    narrow = torch.int16 if num_regions < 2**15 else torch.int32
    order = region.to(narrow).sort(stable=True).indices
    return place[order], torch.bincount(region, minlength=num_regions)


@tile_places.register_fake
def _(
    row: Tensor, col: Tensor, shape: list[int], row_block: int, col_tile: int
) -> tuple[Tensor, Tensor]:
    require_one_device(row, col)
    num_regions = -(-shape[0] // row_block) * max(-(-shape[1] // col_tile), 1)
    # Without values the number of entries is unknown: the largest there may be.
    return col.new_empty(col.shape, dtype=torch.int64), col.new_empty(
        num_regions, dtype=torch.int64
    )
