"""Ranking metrics of a hit matrix, per row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from pyg_kd.graph import Neighbors

#: Every metric that :func:`ranking_metrics` computes.
METRICS = ("recall", "ndcg", "hit_rate", "mrr", "precision", "map")


def parse_metric(metric: str) -> tuple[str, int]:
    """Split ``"recall@20"`` into ``("recall", 20)``."""
    name, _, k = metric.partition("@") if isinstance(metric, str) else ("", "", "")
    if name not in METRICS or not k.isdecimal() or int(k) < 1:
        raise ValueError(
            f"'metric' must look like 'recall@20', with one of {METRICS} (got {metric!r})"
        )
    return name, int(k)


def ranking_metrics(
    hits: Tensor, num_targets: Tensor, ks: Sequence[int], metrics: Sequence[str] = METRICS
) -> dict[str, Tensor]:
    r"""Compute metrics at several list lengths, for every row.

    With :math:`h_r \in \{0, 1\}` telling whether the item at rank :math:`r`
    is a target and :math:`R` the number of targets of the row:

    .. math::
        \textrm{recall@k} &= \tfrac{1}{R} \sum_{r \le k} h_r \qquad
        \textrm{precision@k} = \tfrac{1}{k} \sum_{r \le k} h_r \qquad
        \textrm{hit\_rate@k} = \max_{r \le k} h_r \\
        \textrm{ndcg@k} &= \sum_{r \le k} \frac{h_r}{\log_2(r + 1)} \Big/
        \sum_{r \le \min(R, k)} \frac{1}{\log_2(r + 1)} \\
        \textrm{mrr@k} &= \max_{r \le k} \frac{h_r}{r} \qquad
        \textrm{map@k} = \frac{1}{R} \sum_{r \le k} \frac{h_r}{r} \sum_{s \le r} h_s

    A row without targets gets zero everywhere.

    Args:
        hits: Which ranked items are targets, bool, shape ``[n, k_max]``.
        num_targets: Number of targets of each row, at least as many as its hits, int64,
            shape ``[n]``.
        ks: List lengths, each in ``1..k_max``.
        metrics: Names out of :data:`METRICS`.

    Returns:
        ``{"recall@10": float64 [n], ...}``, metric by metric.

    Raises:
        ValueError: If a metric is unknown, a length is out of range, the shapes
            or devices do not fit, or a row has more hits than targets.
        TypeError: If ``hits`` is not a bool tensor, ``num_targets`` not one of integers, a
            length not an integer, or ``metrics`` not a list.

    Example:
        >>> hits = torch.tensor([[False, True, True]])
        >>> values = ranking_metrics(hits, torch.tensor([4]), (2, 3), ("recall", "mrr"))
        >>> {name: float(value) for name, value in values.items()}
        {'recall@2': 0.25, 'recall@3': 0.5, 'mrr@2': 0.5, 'mrr@3': 0.5}
    """
    _check_hits(hits, num_targets)
    ks = check_lengths(ks, hits.size(1))
    check_metrics(metrics)
    _check_numbers(hits, num_targets)
    position = torch.tensor(ks, device=hits.device) - 1
    # Every metric is a running value over the ranks, read at the places asked for.
    return {
        f"{name}@{k}": values[:, column]
        for name in metrics
        for values in [_RUNNING[name](hits, num_targets, position)]
        for column, k in enumerate(ks)
    }


def _check_hits(hits: Tensor, num_targets: Tensor) -> None:
    for name, given in {"hits": hits, "num_targets": num_targets}.items():
        if not isinstance(given, Tensor):
            raise TypeError(f"{name!r} must be a tensor (got {type(given).__name__})")
    if hits.dtype != torch.bool:
        raise TypeError(f"'hits' must be bool (got {hits.dtype})")
    dtype = num_targets.dtype
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        raise TypeError(f"'num_targets' must be integers (got {dtype})")
    if hits.dim() != 2 or num_targets.shape != hits.shape[:1]:
        raise ValueError(
            f"'hits' must be [n, k_max] and 'num_targets' [n] "
            f"(got {list(hits.shape)} and {list(num_targets.shape)})"
        )
    if num_targets.device != hits.device:
        raise ValueError(
            f"'num_targets' must be on the device of 'hits', {hits.device} "
            f"(got {num_targets.device})"
        )


def _check_numbers(hits: Tensor, num_targets: Tensor) -> None:
    found = hits.sum(dim=1)
    if bool((num_targets < found).any()):
        row = int((num_targets < found).nonzero()[0])
        raise ValueError(
            f"'num_targets' must be at least the number of hits, {int(found[row])} in row {row} "
            f"(got {int(num_targets[row])})"
        )


def hit_matrix(rows: Tensor, ids: Tensor, targets: Neighbors, num_cols: int) -> Tensor:
    r"""Tell which ranked columns are targets of their row.

    Args:
        rows: Row ids, int64, shape ``[b]``.
        ids: Ranked columns of each row, int64, shape ``[b, k]``, padded with -1.
        targets: The targets of every row.
        num_cols: Number of columns.

    Returns:
        Bool, shape ``[b, k]``.

    Example:
        >>> targets = Neighbors(ptr=torch.tensor([0, 0, 2]), col=torch.tensor([3, 5]))
        >>> hit_matrix(torch.tensor([1]), torch.tensor([[5, 4, -1]]), targets, num_cols=6)
        tensor([[ True, False, False]])
    """
    place, col = targets.of(rows)
    query = torch.arange(rows.numel(), device=rows.device).unsqueeze(1) * num_cols + ids
    return in_sorted(place * num_cols + col, query) & (ids >= 0)


def in_sorted(keys: Tensor, query: Tensor) -> Tensor:
    """Tell which entries of ``query`` occur in the ascending ``keys``, both int64."""
    if keys.numel() == 0:
        return torch.zeros_like(query, dtype=torch.bool)
    place = torch.searchsorted(keys, query).clamp(max=keys.numel() - 1)
    return keys[place] == query


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise an error unless ``metrics`` is a list of names out of :data:`METRICS`."""
    if isinstance(metrics, str):
        raise TypeError(
            f"'metrics' must be a list of names, ({metrics!r},) for one (got {metrics!r})"
        )
    if not isinstance(metrics, Collection):
        raise TypeError(f"'metrics' must be a list of names (got {metrics!r})")
    names = tuple(metrics)
    if not names or any(name not in METRICS for name in names):
        raise ValueError(f"'metrics' must be some of {METRICS} (got {names})")


def check_lengths(k: int | Sequence[int], largest: int) -> tuple[int, ...]:
    """Lengths ascending without repetition, each checked to lie in ``1..largest``."""
    ks: Sequence[Any] = k if isinstance(k, Sequence) and not isinstance(k, (str, bytes)) else (k,)
    if not all(isinstance(length, Integral) and not isinstance(length, bool) for length in ks):
        raise TypeError(f"'k' must be an integer or a list of integers (got {k!r})")
    if not ks or min(ks) < 1 or max(ks) > largest:
        raise ValueError(f"'k' must hold lengths in 1..{largest} (got {tuple(ks)})")
    return tuple(sorted({int(length) for length in ks}))


def _ranks(hits: Tensor) -> Tensor:
    return torch.arange(1, hits.size(1) + 1, dtype=torch.double, device=hits.device)


def _share(values: Tensor, num_targets: Tensor) -> Tensor:
    return values / num_targets.clamp(min=1).unsqueeze(1)


def _recall(hits: Tensor, num_targets: Tensor, position: Tensor) -> Tensor:
    return _share(hits.cumsum(1)[:, position].double(), num_targets)


def _precision(hits: Tensor, num_targets: Tensor, position: Tensor) -> Tensor:
    return hits.cumsum(1)[:, position].double() / (position + 1)


def _hit_rate(hits: Tensor, num_targets: Tensor, position: Tensor) -> Tensor:
    return (hits.cumsum(1)[:, position] > 0).double()


def _mrr(hits: Tensor, num_targets: Tensor, position: Tensor) -> Tensor:
    return (hits / _ranks(hits)).cummax(dim=1).values[:, position]


def _map(hits: Tensor, num_targets: Tensor, position: Tensor) -> Tensor:
    gain = (hits * hits.cumsum(1) / _ranks(hits)).cumsum(1)
    return _share(gain[:, position], num_targets)


def _ndcg(hits: Tensor, num_targets: Tensor, position: Tensor) -> Tensor:
    discount = 1 / (_ranks(hits) + 1).log2()
    ideal = discount.cumsum(0)
    best = torch.minimum(num_targets.clamp(min=1).unsqueeze(1), position + 1)
    return (hits * discount).cumsum(1)[:, position] / ideal[best - 1]


_RUNNING: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "recall": _recall,
    "ndcg": _ndcg,
    "hit_rate": _hit_rate,
    "mrr": _mrr,
    "precision": _precision,
    "map": _map,
}
