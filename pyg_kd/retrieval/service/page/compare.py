"""One list of a student and one of its teacher: what they share, and how long each takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from pyg_kd.retrieval.index import TopKIndex

#: Searches behind the median, and the seconds after which fewer have to do.
RUNS, BUDGET = 5, 0.1


@dataclass(frozen=True)
class Wish:
    """Whom a list is for: a user, or a history of items, by their original ids.

    Args:
        user: The user, or ``None``.
        items: The history of somebody who is no user.
        exclude: Items that must not be listed, besides those seen before.
    """

    user: Any = None
    items: tuple[Any, ...] = ()
    exclude: tuple[Any, ...] = ()

    @property
    def is_history(self) -> bool:
        """Whether there is no user, only a history."""
        return self.user is None


@dataclass(frozen=True)
class Ranked:
    """A list, best first, by original ids, and the median time of one search in milliseconds."""

    items: list[Any]
    scores: list[float]
    milliseconds: float


def ranked(index: TopKIndex, wish: Wish, k: int) -> Ranked:
    """Search once to warm up, then several times with a clock.

    Raises:
        UnknownId: If the index does not know an item of the history.
    """
    items, scores = _search(index, wish, k)
    times: list[float] = []
    while len(times) < RUNS and sum(times) < BUDGET:
        start = time.perf_counter()
        _search(index, wish, k)
        times.append(time.perf_counter() - start)
    listed = scores[0] > -float("inf")  # lists are padded
    return Ranked(items[0][listed].tolist(), scores[0][listed].tolist(), 1e3 * median(times))


def _search(index: TopKIndex, wish: Wish, k: int) -> tuple[Any, Any]:
    exclude = wish.exclude or None
    if wish.is_history:
        return index.search_history([*wish.items], k, exclude=exclude)
    unknown: Literal["raise", "popular"] = "raise" if index.popularity is None else "popular"
    return index.search([wish.user], k, exclude=exclude, unknown=unknown)


def overlap(first: Sequence[Any], second: Sequence[Any]) -> tuple[int, int]:
    """How many items two lists share, and the length of the longer one.

    Example:
        >>> overlap([1, 2, 3], [3, 4])
        (1, 3)
    """
    return len(set(first) & set(second)), max(len(first), len(second))
