"""What lists lose when tables are stored below float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.search import top_k
from pyg_kd.retrieval.seen import Pattern, Seen, rows_of
from pyg_kd.retrieval.tables import Table

Rows = npt.NDArray[np.int64]

#: Users whose lists are compared, at most.
SAMPLE = 5000


def precision_loss(
    full: tuple[Table, Table],
    stored: tuple[Table, Table],
    seen: Seen,
    *,
    validation: Pattern | None = None,
    k: int = 20,
) -> dict[str, Any]:
    r"""Compare lists of tables at a lower precision with those of the tables they came from.

    Args:
        full: The tables of users and items, ``[U, d]`` and ``[I, d]``.
        stored: The same at the precision to be served.
        seen: What users have seen, which is left out of their lists.
        validation: Items that users chose later, which they have not seen; then only users who
            have some are compared.
        k: Length of the lists.

    Returns:
        ``compared_with``, the number of ``users`` (evenly spaced if there are many), ``k``,
        ``overlap``, the share of the lists of ``full`` that those of ``stored`` hold, and
        ``recall`` by dtype, the mean share of a user's validation items that are listed, or
        ``None``.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
        >>> full, stored = Table.of(x), Table.of(x, "int8")
        >>> seen = Seen(np.zeros(41, int), [], 40)
        >>> precision_loss((full, full), (stored, stored), seen, k=5)["overlap"] > 0.9
        True
    """
    users = np.arange(len(full[0]))
    if validation is not None:
        users = np.flatnonzero(np.diff(validation.ptr) > 0)
    users = users[:: max(1, -(-len(users) // SAMPLE))]
    size = len(full[1])
    hidden = seen.of(users)
    lists = [
        _keys(top_k(tables[0].rows(users), tables[1], k, hidden=hidden)[0], size)
        for tables in (full, stored)
    ]
    kept = np.isin(lists[0], lists[1]).sum() / max(len(lists[0]), 1)
    recall = None
    if validation is not None:
        wanted = rows_of(validation, users)
        dtypes = (full[1].dtype, stored[1].dtype)
        recall = {
            dtype: _recall(keys, wanted, size) for dtype, keys in zip(dtypes, lists, strict=True)
        }
    return {
        "compared_with": full[1].dtype,
        "users": len(users),
        "k": k,
        "overlap": round(float(kept), 6),
        "recall": recall,
    }


def _keys(items: Rows, size: int) -> Rows:
    """One number for each user and listed item, int64."""
    row, _ = listed = np.nonzero(items >= 0)
    keys: Rows = row * size + items[listed]
    return keys


def _recall(keys: Rows, wanted: Pattern, size: int) -> float:
    count = np.diff(wanted.ptr)
    row = np.repeat(np.arange(len(count)), count)
    hit = np.isin(row * size + wanted.col, keys)
    return round(float((np.bincount(row[hit], minlength=len(count)) / count).mean()), 6)
