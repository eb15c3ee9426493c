"""Measuring how long lists take."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.ids import Ids
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.latency.pinning import pinned, without_collector
from pyg_kd.retrieval.latency.recall import held_out_items, recall_at
from pyg_kd.retrieval.latency.report import METHOD, STAGES, LatencyReport, LatencyRow, percentiles
from pyg_kd.retrieval.latency.stages import Clock
from pyg_kd.retrieval.latency.turns import Indexes, Plan, Times, take_turns

#: An index, or the path of a bundle.
Source = TopKIndex | str | os.PathLike[str]


def measure_latency(
    index: Source | Mapping[str, Source],
    *,
    teacher: Source | None = None,
    k: int = 20,
    batch: int = 1,
    bulk: int = 256,
    requests: int = 1000,
    warmup: int = 100,
    exclude_seen: bool = True,
    test: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    threads: int = 1,
    cpus: Sequence[int] | None = None,
    seed: int = 0,
    progress: bool = False,
    clock: Clock = time.perf_counter,
) -> LatencyReport:
    r"""Time requests end to end, from ids of users to ids of items, and part by part.

    The process is held to processors and threads by
    :func:`~pyg_kd.retrieval.latency.pinned`, and garbage is not collected meanwhile. Indexes take
    turns, ten times, and what a turn begins with, which fills the caches, is not counted.
    Percentiles are NumPy's of the method ``"inverted_cdf"``: requests that were measured. Of fewer
    than 100, the 99th is the worst one.

    Args:
        index: An index, the path of a bundle, or several by name.
        teacher: Another one, of the same users and items.
        k: Length of the lists.
        batch: Users in a request.
        bulk: Users in a call that is timed for users a second; 0 leaves that out.
        requests: How many requests are timed as a whole, and again by parts.
        warmup: How many go before, for each index.
        exclude_seen: Leave out what each user has seen.
        test: Held-out items, ``(ptr, col)``, as of :func:`~pyg_kd.retrieval.latency.recall_at`;
            then rows tell the recall.
        threads: Number of threads.
        cpus: The processors to use, ``threads`` of them.
        seed: Which users are drawn, uniformly and with replacement.
        progress: Show what is done on the standard error stream.
        clock: Returns seconds.

    Returns:
        One row for each index, the teacher's first.

    Raises:
        ValueError: If an option is out of range, there are no users, or indexes are not of the
            same users and items in the same order.
        TypeError: If there is something else in the place of an index.

    Example:
        >>> index = TopKIndex(np.eye(3, 4), np.eye(4))
        >>> report = measure_latency(index, requests=20, warmup=0)
        >>> row = report.row("student")
        >>> 0 < row.p50 <= row.p95 <= row.p99, row.nbytes
        (True, 112)
    """
    plan = Plan(k, batch, bulk, requests, warmup, exclude_seen, seed)
    indexes = _indexes(index, teacher)
    first = next(iter(indexes.values()))
    if test is not None:
        held_out_items(first, test)  # before anything is timed
    from pyg_kd.progress import Progress

    total = plan.per_index * len(indexes)
    shown = Progress("latency", total, unit="request", shown=progress)
    with shown, pinned(threads, cpus) as pinning, without_collector():
        times = take_turns(indexes, plan, clock, shown.update)
    recalls = {} if test is None else {n: recall_at(i, test, k) for n, i in indexes.items()}
    rows = [_row(name, i, times[name], recalls.get(name)) for name, i in indexes.items()]
    size = {"users": first.num_users, "items": first.num_items}
    settings = {**vars(plan), **size, **pinning._asdict(), "percentiles": METHOD}
    return LatencyReport(rows, settings)


def _indexes(index: Source | Mapping[str, Source], teacher: Source | None) -> Indexes:
    sources = dict(index) if isinstance(index, Mapping) else {"student": index}
    if not sources:
        raise ValueError("'index' must name at least one index (got none)")
    if teacher is not None:
        if "teacher" in sources:
            raise ValueError("'teacher' is given twice, by 'index' too")
        sources = {"teacher": teacher, **sources}
    indexes = {name: _load(name, source) for name, source in sources.items()}
    (named, first), *others = indexes.items()
    if not first.num_users or not first.num_items:
        raise ValueError(f"{named!r} must have users and items (got {first!r})")
    for name, other in others:
        for kind, mine, theirs in (
            ("users", first.users, other.users),
            ("items", first.items, other.items),
        ):
            if not _same(mine, theirs):
                raise ValueError(f"{name!r} must have the {kind} of {named!r} in the same order")
    return indexes


def _load(name: str, source: Source) -> TopKIndex:
    if isinstance(source, TopKIndex):
        return source
    if isinstance(source, (str, os.PathLike)):
        from pyg_kd.retrieval.bundle import load_student

        return load_student(source)
    raise TypeError(f"{name!r} must be a TopKIndex or a path (got {type(source).__name__})")


def _same(ids: Ids, others: Ids) -> bool:
    if len(ids) != len(others):
        return False
    rows = np.arange(len(ids))
    return bool(np.array_equal(ids.take(rows), others.take(rows)))


def _row(name: str, index: TopKIndex, times: Times, recall: float | None) -> LatencyRow:
    return LatencyRow(
        model=name,
        dim=index.dim,
        dtype=index.dtype,
        backend=index.backend.name,
        nbytes=index.nbytes,
        **percentiles(times.whole),
        users_per_second=times.users_per_second,
        stages={s: 1e3 * median(part[s] for part in times.parts) for s in STAGES},
        recall=recall,
    )
