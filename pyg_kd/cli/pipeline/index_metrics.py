"""Metrics of what an index lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyg_kd.metrics.ranking_metrics import ranking_metrics
from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.seen import Seen

Array = npt.NDArray[np.int64]

#: Users ranked at once.
BLOCK = 4096


def index_metrics(
    index: TopKIndex, known: Tensor, targets: Tensor, ks: Sequence[int], metrics: Sequence[str]
) -> dict[str, float]:
    r"""The means over the users with targets, as :func:`pyg_kd.evaluation.evaluate` has them.

    Args:
        index: The index.
        known: Pairs of a user and an item that are left out of the lists, int64 ``[2, E]``.
        targets: What is to be found, int64 ``[2, E]``, sorted or not.
        ks: List lengths.
        metrics: Names of metrics.
    """
    seen = Seen(*_csr(known, index.num_users), index.num_items)
    ptr, col = _csr(targets, index.num_users)
    users = np.flatnonzero(np.diff(ptr))
    keys = np.repeat(np.arange(index.num_users), np.diff(ptr)) * index.num_items + col
    sums: dict[str, float] = dict.fromkeys((f"{name}@{k}" for name in metrics for k in ks), 0.0)
    parts = []
    for start in range(0, len(users), BLOCK):
        rows = users[start : start + BLOCK]
        queries = index.vectors_of(rows)
        listed, _ = index.rank(queries, max(ks), hidden=seen.of(rows))
        hits = (listed >= 0) & np.isin(rows[:, None] * index.num_items + listed, keys)
        degree = torch.from_numpy(np.diff(ptr)[rows])
        parts.append(ranking_metrics(torch.from_numpy(hits), degree, ks, metrics))
    return {name: float(torch.cat([part[name] for part in parts]).mean()) for name in sums}


def _csr(edges: Tensor, num_rows: int) -> tuple[Array, Array]:
    user, item = edges.numpy()
    order = np.lexsort((item, user))
    ptr = np.zeros(num_rows + 1, np.int64)
    np.cumsum(np.bincount(user, minlength=num_rows), out=ptr[1:])
    return ptr, item[order]
