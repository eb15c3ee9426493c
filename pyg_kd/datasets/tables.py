"""Graphs from the user's own tables of interactions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.datasets.columns import numbered, seconds
from pyg_kd.datasets.graph import interaction_graph
from pyg_kd.datasets.table_files import check_names, from_arrow, read_columns
from pyg_kd.typing import ITEM, USER


def from_interactions(
    table: Any,
    user: str | int = "user",
    item: str | int = "item",
    time: str | int | npt.ArrayLike | Tensor | None = None,
) -> HeteroData:
    r"""Build the user-item graph of a table of interactions.

    Ids may be any integers or strings. They are numbered ``0..n-1`` in ascending
    order, and ``data['user'].raw_id`` and ``data['item'].raw_id`` tell what each
    number stands for: int64 ``[n]`` for integer ids, else a list of :obj:`str`. Whole
    floating-point numbers, which pandas makes of integers beside a gap, count as integers.
    Repeated interactions are one edge, and the latest time is kept.

    Every line of a text file must have the same number of fields. Ids in it are integers if all
    those of the column are written as such, ``7.0`` among them, else strings: ``007`` is the number
    7 beside ``8``, and the string ``007`` beside ``x`` or ``1E5``. A column of decimal numbers such
    as ``1.5`` is refused. A field that is empty, ``NA``, ``null`` or the like is missing.

    Args:
        table: A path to a ``.csv``, ``.tsv``, ``.dat`` (separated by ``::``, tabs, commas,
            semicolons, bars or blanks), each also with ``.gz``, or Parquet file, a
            :class:`pandas.DataFrame`, a :class:`pyarrow.Table`, a mapping from column names to
            arrays, or an edge index: a tensor or an array of shape ``[2, E]`` or a pair
            ``(users, items)``. Files need :obj:`pandas`, and Parquet needs :obj:`pyarrow`.
        user: The column of the users; not used for an edge index. If all columns are given
            as positions from 0, a text file has no header line.
        item: The column of the items; not used for an edge index.
        time: The column of the timestamps, or for an edge index the timestamps
            themselves, ``[E]``. Numbers keep their unit as int64 or float64; dates, also
            as strings like ``2024-01-31T12:00:00``, become whole seconds since 1970 in UTC,
            int64.

    Returns:
        A graph with ``edge_index``, int64 ``[2, E]``, sorted by user, then item, and
        if ``time`` is given the edge attribute ``time``, ``[E]``.

    Raises:
        TypeError: If the table, an id or a timestamp has an unsupported type.
        ValueError: If a column is missing, an id or a timestamp is missing or exceeds int64,
            the columns or the lines of a file differ in length, a file is damaged, or the
            table is empty.
        FileNotFoundError: If there is no such file.
        ImportError: If a file needs a package that is not installed.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> data = from_interactions({"who": ["eve", "bob", "eve"], "what": [30, 10, 10]},
        ...                          user="who", item="what")
        >>> data["user"].raw_id, data["item"].raw_id.tolist()
        (['bob', 'eve'], [10, 30])
        >>> data["user", "interacts", "item"].edge_index.tolist()
        [[0, 1, 1], [0, 0, 1]]
    """
    wanted = {"user": user, "item": item} | ({} if time is None else {"time": time})
    columns = _columns(table, wanted)
    sizes = {name: _length(name, column) for name, column in columns.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"the columns of 'table' must have the same length (got {sizes})")
    if next(iter(sizes.values())) == 0:
        raise ValueError("'table' must hold at least one interaction (got none)")
    names = iter(columns)
    users, user_ids = numbered(name := next(names), columns[name])
    items, item_ids = numbered(name := next(names), columns[name])
    times = None if time is None else seconds(name := next(names), columns[name])
    data = interaction_graph(users, items, len(user_ids), len(item_ids), times)
    data[USER].raw_id = user_ids
    data[ITEM].raw_id = item_ids
    return data


def _columns(table: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The columns of users, items and, if asked for, times, in this order, by their names."""
    if isinstance(table, (Tensor, np.ndarray, Sequence)) and not isinstance(table, str):
        return _columns_of_edges(table, wanted.get("time"))
    if len({str(name) for name in wanted.values()}) != len(wanted):
        raise ValueError(
            f"'user', 'item' and 'time' must be different columns (got {[*wanted.values()]})"
        )
    if isinstance(table, (str, os.PathLike)):
        return read_columns(Path(table), wanted)
    table = from_arrow(table)
    if not isinstance(table, Mapping) and not hasattr(table, "columns"):
        raise TypeError(
            "'table' must be a path, a data frame, a mapping of columns or an edge index "
            f"(got {type(table).__name__})"
        )
    known = list(table.keys() if isinstance(table, Mapping) else table.columns)
    check_names(wanted, known)
    return {str(name): table[name] for name in wanted.values()}


def _columns_of_edges(
    edges: Tensor | npt.NDArray[Any] | Sequence[Any], time: npt.ArrayLike | Tensor | None
) -> dict[str, Any]:
    if isinstance(time, (str, int)):
        raise TypeError(f"'time' must hold the timestamps of the edge index (got {time!r})")
    if isinstance(edges, (Tensor, np.ndarray)) and (edges.ndim != 2 or edges.shape[0] != 2):
        raise ValueError(f"'table' must have the shape [2, E] (got {list(edges.shape)})")
    if len(edges) != 2:
        raise ValueError(f"'table' must be a pair (users, items) (got {len(edges)} entries)")
    columns: dict[str, Any] = {"users": edges[0], "items": edges[1]}
    if time is not None:
        columns["time"] = time
    return columns


def _length(name: str, column: Any) -> int:
    try:
        return len(column)
    except TypeError as error:
        raise TypeError(
            f"column '{name}' must be an array or a list (got {type(column).__name__})"
        ) from error
