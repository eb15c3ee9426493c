"""Requests of drawn users, which several indexes answer in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import numpy as np

from pyg_kd.checks import require_count
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.latency.stages import Clock, Users, timed_request, timed_stages

T = TypeVar("T")

Indexes = Mapping[str, TopKIndex]

#: Called with a number of requests that are answered.
Done = Callable[[int], None]

#: How often indexes take turns, so that a machine that slows down slows all of them.
ROUNDS = 10

#: Calls in bulk that are timed.
BULK_CALLS = 5


@dataclass(frozen=True)
class Plan:
    """What is asked; see :func:`~pyg_kd.retrieval.latency.measure_latency`."""

    k: int
    batch: int
    bulk: int
    requests: int
    warmup: int
    exclude_seen: bool
    seed: int

    def __post_init__(self) -> None:
        require_count(k=self.k, batch=self.batch, requests=self.requests)
        require_count(0, bulk=self.bulk, warmup=self.warmup, seed=self.seed)

    @property
    def per_index(self) -> int:
        """How many requests each index answers, bulk calls apart."""
        return self.warmup + 2 * (self.requests + min(ROUNDS, self.requests))

    def draw(self, index: TopKIndex) -> tuple[list[Users], list[Users], list[Any]]:
        """Ids of users for the warm-up, for the requests and for the calls in bulk."""
        generator = np.random.default_rng(self.seed)
        drawn = []
        for count, size in (
            (self.warmup, self.batch),
            (self.requests, self.batch),
            (1 + BULK_CALLS if self.bulk else 0, self.bulk),
        ):
            drawn.append(index.users.take(generator.integers(index.num_users, size=(count, size))))
        # A service gets Python's integers and strings; whoever asks in bulk has arrays.
        return drawn[0].tolist(), drawn[1].tolist(), list(drawn[2])


@dataclass(frozen=True)
class Times:
    """The seconds of each request, of each part of each request, and users a second in bulk."""

    whole: list[float]
    parts: list[dict[str, float]]
    users_per_second: float | None


def take_turns(indexes: Indexes, plan: Plan, clock: Clock, done: Done) -> dict[str, Times]:
    """Time every index, by name."""
    warmup, users, bulk = plan.draw(next(iter(indexes.values())))
    asked: dict[str, Any] = {"k": plan.k, "exclude_seen": plan.exclude_seen}
    for index in indexes.values():
        for ids in warmup:
            index.search(ids, **asked)
            done(1)
    whole = _turns(indexes, users, lambda i, ids: timed_request(i, ids, **asked, clock=clock), done)
    parts = _turns(indexes, users, lambda i, ids: timed_stages(i, ids, **asked, clock=clock), done)
    calls: dict[str, list[float]] = {name: [] for name in indexes}
    for ids in bulk:
        for name, index in indexes.items():
            calls[name].append(timed_request(index, ids, **asked, clock=clock))
    speed = {name: plan.bulk / median(times[1:]) for name, times in calls.items() if times}
    return {name: Times(whole[name], parts[name], speed.get(name)) for name in indexes}


def _turns(
    indexes: Indexes, users: list[Users], timed: Callable[[TopKIndex, Users], T], done: Done
) -> dict[str, list[T]]:
    """Time every request with every index; the first of a turn twice, to fill the caches."""
    found: dict[str, list[T]] = {name: [] for name in indexes}
    for part in np.array_split(np.arange(len(users)), min(ROUNDS, len(users))):
        for name, index in indexes.items():
            timed(index, users[part[0]])
            found[name] += [timed(index, users[place]) for place in part]
            done(1 + len(part))
    return found
