"""Which rows the losses of a batch read, and how they see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.sharding.fetched import FetchedRows
from pyg_kd.typing import ITEM, USER, Batch, XDict


def rows_of(owner: nn.Module, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
    """Numbers of the rows that a loss or a method reads of a batch, by node type; ``None``: all."""
    told: Callable[..., Any] | None = getattr(owner, "rows_read", None)
    if told is not None:
        found: dict[str, Tensor | None] = told(graph, batch)
        return found
    own = {USER: batch.user, ITEM: batch.candidates}
    row_wise = getattr(owner, "row_wise", ())
    return {name: ids if name in row_wise else None for name, ids in own.items()}


def part_of(owner: nn.Module, batch: Batch) -> Batch:
    """What one process does of a batch: its share, or all of it where shares don't add up."""
    return batch if getattr(owner, "splits", True) else batch.whole


def rows_read(
    owners: Sequence[nn.Module], graph: HeteroData, batch: Batch
) -> dict[str, Tensor | None]:
    r"""Numbers of all rows that a step reads, by node type; ``None`` for the whole table.

    Args:
        owners: The base loss and the methods.
        graph: The graph with knowledge.
        batch: The share of this process.

    Returns:
        Ascending and distinct, int64.
    """
    told = [rows_of(owner, graph, part_of(owner, batch)) for owner in owners]
    found: dict[str, Tensor | None] = {}
    for name in (USER, ITEM):
        parts = [rows[name] for rows in told]
        known = [part.flatten().long() for part in parts if part is not None]
        # Lists are padded with -1, which is read as row 0 and masked.
        ids = torch.cat(known).clamp_(min=0) if len(known) == len(parts) else None
        found[name] = None if ids is None else ids.unique()
    return found


def as_tables(rows: XDict, ids: dict[str, Tensor | None], sizes: dict[str, int]) -> XDict:
    """What losses see of the rows that were fetched: tables of all rows."""
    tables = {}
    for name, x in rows.items():
        which = ids[name]
        tables[name] = x if which is None else FetchedRows(x, which, sizes[name], name)
    return tables
