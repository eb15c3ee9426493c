"""Requests are timed by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from types import MethodType
from typing import Any

import numpy as np
import pytest

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.bundle import save_index
from pyg_kd.retrieval.latency import measure_latency
from pyg_kd.retrieval.latency.report import STAGES

USERS, ITEMS = 40, 30


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _index(dim: int = 4, **options: Any) -> TopKIndex:
    rng = np.random.default_rng(dim)
    x_user, x_item = rng.normal(size=(USERS, dim)), rng.normal(size=(ITEMS, dim))
    seen = (np.arange(USERS + 1) * 2, rng.integers(0, ITEMS, 2 * USERS))
    return TopKIndex(x_user, x_item, **{"seen": seen, **options})


def _slow(clock: Clock, owner: Any, name: str, seconds: float | Callable[..., float]) -> list[Any]:
    """Let every call of a method take some seconds; the first arguments of the calls."""
    method, calls = getattr(owner, name), []

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args[0] if args else None)
        clock.now += seconds(args[0]) if callable(seconds) else seconds
        return method(*args, **kwargs)

    setattr(owner, name, MethodType(call, owner))
    return calls


def _nearest_rank(times: list[float], percent: int) -> float:
    return sorted(times)[ceil(percent / 100 * len(times)) - 1]


@pytest.mark.parametrize("requests", [1, 7, 100, 403])
@pytest.mark.parametrize("batch", [1, 3])
def test_percentiles(requests: int, batch: int) -> None:
    clock, index = Clock(), _index(user_ids=[f"u{n}" for n in range(USERS)])
    seconds = {f"u{n}": (1 + n) ** 2 / 1000 for n in range(USERS)}
    calls = _slow(clock, index, "search", lambda users: sum(seconds[u] for u in users))
    report = measure_latency(
        index, requests=requests, batch=batch, warmup=5, bulk=0, seed=3, clock=clock
    )
    rng = np.random.default_rng(3)
    warm, asked = (rng.integers(USERS, size=(n, batch)) for n in (5, requests))
    warm, asked = ([[f"u{n}" for n in row] for row in rows.tolist()] for rows in (warm, asked))
    assert [users for users in calls][:5] == warm
    assert len(calls) == 5 + requests + min(10, requests)
    assert all(type(user) is str for users in calls for user in users)
    times = [sum(seconds[user] for user in users) for users in asked]
    row = report.row("student")
    for percent in (50, 95, 99):
        assert getattr(row, f"p{percent}") == pytest.approx(1e3 * _nearest_rank(times, percent))
    assert row.mean == pytest.approx(1e3 * sum(times) / requests)
    assert row.users_per_second is None


def test_parts_add_up() -> None:
    clock, index = Clock(), _index()
    _slow(clock, index.newcomers, "rows", 0.001)
    _slow(clock, index, "vectors_of", 0.002)
    _slow(clock, index, "allowed", 0.003)
    _slow(clock, index.seen, "of", 0.004)
    _slow(clock, index, "rank", 0.010)
    _slow(clock, index.items, "take", 0.006)
    # The product is timed apart; within ranking too, of which its time is a part.
    _slow(clock, index.x_item, "block", 0.005)
    row = measure_latency(index, requests=30, bulk=0, clock=clock).row("student")
    wanted = {"look-up": 9, "filter": 7, "scoring": 5, "top-k": 10}
    assert row.stages == pytest.approx(wanted)
    assert list(row.stages) == list(STAGES)
    assert [row.p50, row.p99] == pytest.approx([sum(wanted.values())] * 2)


def test_ranking_that_is_faster_than_the_bare_product() -> None:
    clock, index = Clock(), _index()
    best = index.rank(np.zeros((1, 4), np.float32), 20)
    index.rank = lambda *_, **__: best
    _slow(clock, index, "rank", 0.010)
    _slow(clock, index.x_item, "block", 0.015)
    stages = measure_latency(index, requests=1, warmup=0, bulk=0, clock=clock).row("student").stages
    assert stages["scoring"] == pytest.approx(10) and stages["top-k"] == 0


def test_another_backend_has_one_stage_for_ranking() -> None:
    clock, index = Clock(), _index()
    index.backend.name = "other"
    _slow(clock, index.backend, "top_k", 0.25)
    stages = measure_latency(index, requests=3, clock=clock).row("student").stages
    assert stages["scoring"] == 0 and stages["top-k"] == pytest.approx(250)


@pytest.mark.parametrize("exclude", [True, False])
def test_seen_items_are_left_out_if_asked(exclude: bool) -> None:
    index, hidden = _index(), []
    top_k = index.backend.top_k

    def recorded(*args: Any, **options: Any) -> Any:
        hidden.append(options["hidden"])
        return top_k(*args, **options)

    index.backend.top_k = recorded
    measure_latency(index, exclude_seen=exclude, requests=5, warmup=0, bulk=0)
    assert len(hidden) == 20 and all((pattern is not None) == exclude for pattern in hidden)


def test_users_a_second_in_bulk() -> None:
    clock, index = Clock(), _index()
    durations = iter([100.0, 0.5, 0.1, 0.3, 0.2, 0.4])  # the first one warms up
    calls = _slow(
        clock, index, "search", lambda users: next(durations) if len(users) == 12 else 0.0
    )
    report = measure_latency(index, requests=2, bulk=12, clock=clock)
    assert report.row("student").users_per_second == pytest.approx(12 / 0.3)
    bulk = [users for users in calls if len(users) == 12]
    assert len(bulk) == 6 and all(isinstance(users, np.ndarray) for users in bulk)


def test_indexes_take_turns_with_the_same_users() -> None:
    indexes = {"a": _index(), "b": _index(6)}
    order: list[tuple[str, Any]] = []
    for name, index in [*indexes.items(), ("teacher", teacher := _index(8))]:
        _slow(Clock(), index, "search", lambda users, name=name: order.append((name, users)) or 0)
    report = measure_latency(indexes, teacher=teacher, requests=40, warmup=3, bulk=0, k=7)
    assert [row.model for row in report.rows] == ["teacher", "a", "b"]
    assert [row.dim for row in report.rows] == [8, 4, 6]
    assert [name for name, _ in order[:9]] == ["teacher"] * 3 + ["a"] * 3 + ["b"] * 3
    turns = order[9:]
    # Ten rounds, in each of which every index answers 4 requests, the first one twice.
    assert [name for name, _ in turns] == (["teacher"] * 5 + ["a"] * 5 + ["b"] * 5) * 10
    asked = {name: [users for n, users in turns if n == name] for name in ("teacher", "a", "b")}
    assert asked["teacher"] == asked["a"] == asked["b"]
    assert asked["a"][::5] == asked["a"][1::5]


def test_a_bundle_is_loaded(tmp_path) -> None:
    index = _index(dtype="int8", user_ids=np.arange(USERS) + 100)
    save_index(index, tmp_path / "bundle")
    report = measure_latency(tmp_path / "bundle", teacher=str(tmp_path / "bundle"), requests=3)
    for row in report.rows:
        assert (row.nbytes, row.dtype, row.dim) == (index.nbytes, "int8", 4)
        assert 0 < row.p50 <= row.p95 <= row.p99


def test_recall_and_settings() -> None:
    index = _index()
    lists = index.search(np.arange(USERS), k=3)[0]
    test = (np.arange(USERS + 1) * 2, np.stack([lists[:, 1], index.seen.pattern.col[::2]], 1))
    report = measure_latency(index, test=(test[0], test[1].ravel()), k=3, requests=2, warmup=0)
    assert report.row("student").recall == pytest.approx(0.5)
    wanted = {"k": 3, "batch": 1, "requests": 2, "users": USERS, "items": ITEMS, "threads": 1}
    assert wanted.items() <= report.settings.items()
    assert report.settings["percentiles"] == "inverted_cdf"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"'k' must be a positive integer \(got 0\)"),
        ({"requests": 0}, r"'requests' must be a positive integer \(got 0\)"),
        ({"batch": 1.5}, r"'batch' must be a positive integer \(got 1.5\)"),
        ({"warmup": -1}, r"'warmup' must be an integer of 0 or more \(got -1\)"),
        ({"bulk": -2}, r"'bulk' must be an integer of 0 or more \(got -2\)"),
        ({"threads": 0}, r"'threads' must be a positive integer \(got 0\)"),
        ({"test": ([0, 1], [0])}, r"'test' must have 40 rows \(got 1\)"),
        ({"test": ([0] * 41, [])}, r"'test' must hold items \(got none\)"),
        ({"teacher": TopKIndex(np.eye(3), np.eye(3))}, "must have the users of 'teacher'"),
        (
            {"teacher": _index(item_ids=np.arange(ITEMS)[::-1])},
            "'student' must have the items of 'teacher' in the same order",
        ),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    clock, index = Clock(), _index()
    calls = _slow(clock, index, "search", 0.0)
    with pytest.raises(ValueError, match=message):
        measure_latency(index, **options)
    assert not calls


def test_bad_indexes() -> None:
    with pytest.raises(TypeError, match=r"'student' must be a TopKIndex or a path \(got int\)"):
        measure_latency(3)
    with pytest.raises(TypeError, match=r"'test' must be a pair \(ptr, col\) \(got list\)"):
        measure_latency(_index(), test=[[0], []])
    with pytest.raises(ValueError, match="at least one index"):
        measure_latency({})
    with pytest.raises(ValueError, match="'teacher' is given twice"):
        measure_latency({"teacher": _index()}, teacher=_index())
    with pytest.raises(ValueError, match="'student' must have users and items"):
        measure_latency(TopKIndex(np.empty((0, 3)), np.eye(3)))
