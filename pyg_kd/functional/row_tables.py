"""Embedding tables of which a step reads and trains only the rows of its batch.

Whoever trains such a table is told which rows are about to be read, and gets gradients of these
rows alone. What is no such table is read as any tensor is.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

#: Called with the ids, of any shape, of rows that are about to be read.
Reader = Callable[[Tensor], None]

_READER = "_pyg_kd_reader"


def make_row_table(table: Tensor, reader: Reader) -> None:
    """Make a leaf tensor a table of rows: ``reader`` hears of rows before they are read."""
    setattr(table, _READER, reader)


def end_row_table(table: Tensor) -> None:
    """Make it a tensor like any other again."""
    if is_row_table(table):
        delattr(table, _READER)


def is_row_table(x: Tensor) -> bool:
    """Whether gradients are wanted of the rows that are read, and of no others."""
    return hasattr(x, _READER)


def before_reading(x: Tensor, index: Tensor) -> None:
    """Announce that the rows at ``index`` will be read; ids of -1 are read as row 0."""
    reader: Reader | None = getattr(x, _READER, None)
    if reader is not None:
        reader(index)
