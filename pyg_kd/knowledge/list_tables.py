"""Ranked lists of a teacher elsewhere, from a table by original ids."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count
from pyg_kd.datasets.table_files import check_names, from_arrow, read_columns, with_optional
from pyg_kd.knowledge.list_rows import OPTIONAL, ListRows
from pyg_kd.knowledge.requirements import (
    check_values,
    graph_fingerprint,
    hash_tensor,
    name_source,
)
from pyg_kd.typing import ITEM, USER

Unknown = Literal["raise", "skip"]
UNKNOWN: tuple[str, ...] = get_args(Unknown)


def read_lists(
    table: Any,
    data: HeteroData,
    *,
    user: str | int = "user",
    item: str | int = "item",
    rank: str | int | None = None,
    score: str | int | None = None,
    confidence: str | int | None = None,
    num_items: int | None = None,
    unknown: Unknown = "raise",
) -> HeteroData:
    r"""Attach the ranked lists of a teacher elsewhere, from a table by original ids.

    Whatever ranks items can teach like this: a sequential model, a cross-encoder, a large language
    model, a service. The table has one row for each place of each list; a file that ``pyg-kd
    recommend --out lists.parquet`` or ``lists.csv`` wrote is one. Columns named ``rank``, ``score``
    and ``confidence`` are taken where there are some. A user's items are ordered by rank,
    ascending, else by score, descending, else as their rows are; equal ones keep the order of their
    rows.

    The result is ``data``, copied shallowly, with

    * ``data["user"].teacher_items``, int32 ``[U, K]``, padded with -1, for the longest list;
    * ``data["user"].teacher_scores``, float32 ``[U, K]``, 0 at padding, if there are scores: what
      ``SoftLabel(target="score")`` and ``fuse(how="score")`` take;
    * ``data["user"].teacher_confidence``, float32 ``[U, K]``, 0 at padding, if there is one: what
      methods that learn from lists, and :func:`fuse`, weight the places by;
    * ``data.graph_fingerprint`` and ``data.teacher_fingerprint``, by the content of the lists.

    A user's own training items are left out, as they are of the lists that
    :func:`extract_knowledge` makes: a recommender never lists them, and no method expects them.
    Users without a row have an empty list, from which nothing is learnt. The teacher must not have
    seen what ``data`` holds out, which a table can't tell.

    Args:
        table: A path to a ``.csv``, ``.tsv``, ``.dat``, each also with ``.gz``, or Parquet file, a
            :class:`pandas.DataFrame`, a :class:`pyarrow.Table`, or a mapping from column names to
            arrays. Files need :obj:`pandas`, and Parquet needs :obj:`pyarrow`.
        data: The training graph. Original ids are its ``raw_id``, as :func:`from_interactions`
            sets them; without, they are the numbers of the nodes.
        user: The column of the users. If all columns are given as positions from 0, a text file
            has no header line.
        item: The column of the items.
        rank: The column of the ranks, which start anywhere.
        score: The column of the scores.
        confidence: The column of the confidence in each place, 0 or more. A place of confidence 0
            is not on the list.
        num_items: Items kept for each user, at most; by default all.
        unknown: ``"raise"`` (default) for ids that are not in the graph, or ``"skip"`` their rows.

    Returns:
        The graph with the lists; ``data`` is left unchanged. Knowledge of another teacher is
        dropped from it.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If a file needs a package that is not installed.
        TypeError: If the table, or a column, is of an unsupported type.
        ValueError: If a column is missing, an id is unknown, a pair of a user and an item is
            repeated, a rank, score or confidence is not a finite number, a confidence is negative,
            all of them are 0, or nothing is left to list.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> from pyg_kd.knowledge import read_lists
        >>> data = from_interactions({"user": ["eve", "bob", "bob"], "item": [30, 10, 20]})
        >>> table = {"user": ["eve", "eve", "bob"], "item": [20, 10, 30], "score": [0.1, 0.7, 0.4]}
        >>> graph = read_lists(table, data)
        >>> graph["user"].teacher_items.tolist()
        [[2, -1], [0, 1]]
        >>> graph["user"].teacher_scores
        tensor([[0.4000, 0.0000],
                [0.7000, 0.1000]])
    """
    require_choice(UNKNOWN, unknown=unknown)
    if num_items is not None:
        require_count(num_items=num_items)
    given = {"rank": rank, "score": score, "confidence": confidence}
    wanted = {"user": user, "item": item} | {k: v for k, v in given.items() if v is not None}
    columns = _columns(table, wanted, data)
    rows = ListRows(columns, data)
    rows.keep(rows.known(unknown))
    rows.refuse_repeated()
    rows.keep(rows.listed())
    ranked = rows.ranked(num_items)
    graph = copy.copy(data)
    found = graph_fingerprint(data)
    digest = hashlib.sha256(f"lists {sorted(ranked)}".encode())
    for value in ranked.values():
        hash_tensor(digest, value)
    name_source(graph, found, digest.hexdigest())
    graph.teacher_inner_product = False
    for name, value in ranked.items():
        graph[USER][name] = value
    check_values(graph, ("teacher_items",))
    return graph


def _columns(table: Any, wanted: Mapping[str, Any], data: HeteroData) -> dict[str, Any]:
    """The columns by what they are, those of :data:`OPTIONAL` where there are some."""
    if len({str(name) for name in wanted.values()}) != len(wanted):
        raise ValueError(f"{[*wanted]} must be different columns (got {[*wanted.values()]})")
    optional = [name for name in OPTIONAL if name not in wanted]
    table = from_arrow(table)
    if isinstance(table, (str, os.PathLike)):
        # Numbers in a file are strings where the graph says that ids are.
        text = [wanted[key] for key in (USER, ITEM) if isinstance(data[key].get("raw_id"), list)]
        found = read_columns(Path(table), wanted, optional=optional, text=text)
        wanted = with_optional(wanted, optional, [*found])
    elif isinstance(table, Mapping) or hasattr(table, "columns"):
        known = list(table.keys() if isinstance(table, Mapping) else table.columns)
        wanted = with_optional(wanted, optional, known)
        check_names(wanted, known)
        found = {str(name): table[name] for name in wanted.values()}
    else:
        raise TypeError(
            "'table' must be a path, a data frame or a mapping of columns "
            f"(got {type(table).__name__})"
        )
    return {role: found[str(name)] for role, name in wanted.items()}
