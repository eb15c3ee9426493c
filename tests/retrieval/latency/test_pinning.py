"""What is pinned is let go, whatever happens meanwhile."""

from __future__ import annotations

import gc
import os
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from pyg_kd.retrieval.latency import pinned
from pyg_kd.retrieval.latency.pinning import VARIABLES, without_collector

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="the system has no affinity"
)
needs_two = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="one processor",
)


class Waiting(threading.Thread):
    """A thread that does something, then waits until it may end."""

    def __init__(self, first: Any = lambda: None) -> None:
        super().__init__(daemon=True)
        self.first, self.ready, self.over = first, threading.Event(), threading.Event()
        self.start()
        self.ready.wait(10)

    def run(self) -> None:
        self.first()
        self.ready.set()
        self.over.wait(10)

    def affinity(self) -> set[int]:
        return os.sched_getaffinity(self.native_id)

    def end(self) -> None:
        self.over.set()
        self.join(10)


@needs_affinity
def test_affinity_is_restored_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), pinned(1) as pinning:
        assert os.sched_getaffinity(0) == {max(before)} == set(pinning.cpus)
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


@needs_two
def test_every_thread_is_held_and_let_go() -> None:
    before = os.sched_getaffinity(0)
    first, *_, last = sorted(before)
    usual, own = Waiting(), Waiting(lambda: os.sched_setaffinity(0, {last}))
    ended = Waiting()
    with pinned(1, cpus=[first]):
        inside = Waiting()
        assert [t.affinity() for t in (usual, own, inside)] == [{first}] * 3
        ended.end()
    assert [t.affinity() for t in (usual, own, inside)] == [before, {last}, before]
    for thread in (usual, own, inside):
        thread.end()


@needs_affinity
def test_without_a_list_of_threads(monkeypatch, tmp_path) -> None:
    before = os.sched_getaffinity(0)
    monkeypatch.setattr("pyg_kd.retrieval.latency.pinning.TASKS", tmp_path / "none")
    with pinned(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_without_affinity(monkeypatch) -> None:
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    with pinned(4) as pinning:
        assert pinning.cpus is None and pinning.threads == 4
    with pytest.raises(ValueError, match=r"'threads' must be at most 4, the processors \(got 5\)"):
        pinned(5).__enter__()


@needs_affinity
def test_bad_arguments() -> None:
    usable = sorted(os.sched_getaffinity(0))
    with pytest.raises(ValueError, match=rf"'threads' must be at most {len(usable)}"):
        pinned(len(usable) + 1).__enter__()
    for cpus in ([], [usable[0]] * 2 + usable[1:2], [10_000]):
        with pytest.raises(ValueError, match=r"'cpus' must be 1 out of \["):
            pinned(1, cpus).__enter__()
    assert sorted(os.sched_getaffinity(0)) == usable


def test_threads_of_products_are_limited(monkeypatch) -> None:
    limited: list[int | None] = []

    def threadpool_limits(limits: int) -> SimpleNamespace:
        limited.append(limits)
        return SimpleNamespace(restore_original_limits=lambda: limited.append(None))

    fake = SimpleNamespace(threadpool_limits=threadpool_limits)
    monkeypatch.setitem(sys.modules, "threadpoolctl", fake)
    with pytest.raises(ZeroDivisionError), pinned(1) as pinning:
        assert limited == [1] and pinning.blas == "threadpoolctl"
        raise ZeroDivisionError
    assert limited == [1, None]


@pytest.mark.parametrize(
    ("variables", "blas"),
    [
        ({}, "nothing"),
        ({"OMP_NUM_THREADS": "1"}, "environment"),
        ({"OMP_NUM_THREADS": "2"}, "nothing"),
        ({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"}, "nothing"),
        ({"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}, "environment"),
    ],
)
def test_without_threadpoolctl(monkeypatch, variables: dict[str, str], blas: str) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pinned(1) as pinning:
        assert pinning.blas == blas


def test_numpy_is_limited() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpoolctl.threadpool_info()]

    before = threads()
    with pinned(1):
        assert set(threads()) == {1}
    assert threads() == before


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was(enabled: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ZeroDivisionError), without_collector():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()
