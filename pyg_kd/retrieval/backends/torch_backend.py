"""Exact ranking by PyTorch, on whatever device."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_count
from pyg_kd.retrieval.backends.base import Ranked
from pyg_kd.retrieval.search.exact import check_allowed, check_hidden, check_queries
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import Table

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = npt.NDArray[Any]

#: Rows widened and scored at once.
TILE = 2**16


class TorchBackend:
    r"""Blocks of queries and tiles of rows on a device, for many queries at a time.

    float32, float16 and int8 tables are kept as they are and widened tile by tile; int4 is kept as
    int8.

    Args:
        table: The rows to rank.
        device: Where to; the CPU by default.
    """

    name = "torch"
    exact = True

    def __init__(self, table: Table, *, device: str | torch.device = "cpu") -> None:
        import torch

        self.table, self.device = table, torch.device(device)
        values, scale = _stored(table)
        with warnings.catch_warnings():
            # Files of a bundle are mapped read-only, and nothing here writes to them.
            warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
            self.values = torch.as_tensor(values, device=self.device)
            self.scale = None if scale is None else torch.as_tensor(scale, device=self.device)

    def top_k(
        self,
        queries: Array,
        k: int,
        *,
        hidden: Pattern | None = None,
        allowed: Array | None = None,
    ) -> Ranked:
        """See :func:`pyg_kd.retrieval.search.top_k`."""
        import torch

        from pyg_kd.functional.ranking import rank_unseen
        from pyg_kd.graph import Neighbors

        require_count(k=k)
        size = len(self.table)
        x = check_queries(queries, self.table.dim)
        hidden = None if hidden is None else check_hidden(hidden, len(x), size)
        mask = None if allowed is None else check_allowed(allowed, size)
        rows = np.full((len(x), k), -1, np.int64)
        scores = np.full((len(x), k), -np.inf, np.float32)
        if not rows.size or not size:
            return rows, scores
        seen = None
        if hidden is not None:
            parts = (part.astype(np.int64, copy=False) for part in hidden)
            seen = Neighbors(*(torch.as_tensor(part, device=self.device) for part in parts))
        banned = None if mask is None else torch.as_tensor(~mask, device=self.device)
        tensor = torch.as_tensor(x, device=self.device)
        blocks = rank_unseen(
            lambda users, cols: masked_scores(tensor[users], self.tile(cols), banned, cols),
            len(x), size, k, seen=seen, col_tile=min(size, TILE),
        )  # fmt: skip
        for block in blocks:
            place = block.rows.cpu().numpy()
            rows[place], scores[place] = block.ids.cpu().numpy(), block.values.cpu().numpy()
        return rows, scores + np.float32(0)

    def tile(self, cols: slice) -> Tensor:
        """A range of rows, float32."""
        values = self.values.narrow(0, cols.start, cols.stop - cols.start).float()
        if self.scale is None:
            return values
        return values * self.scale.narrow(0, cols.start, cols.stop - cols.start).unsqueeze(1)


def masked_scores(x: Tensor, tile: Tensor, banned: Tensor | None, cols: slice) -> Tensor:
    """Scores of queries ``[b, d]`` and rows ``[t, d]``, minus infinity where rows are banned."""
    scores = x @ tile.t()
    if banned is not None:
        scores.masked_fill_(banned.narrow(0, cols.start, len(tile)), -np.inf)
    return scores


def _stored(table: Table) -> tuple[Array, Array | None]:
    """Values as a device keeps them, and the factor of each row."""
    if table.scale is None:
        return table.values, None
    scale = table.scale.astype(np.float32) * np.float32(table.unit)
    if table.dtype == "int8":
        return table.values, scale
    divisor = np.where(scale > 0, scale, 1)[:, None]
    return np.rint(table.block(0, len(table)) / divisor).astype(np.int8), scale
