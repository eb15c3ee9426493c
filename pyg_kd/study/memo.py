"""Work in threads that wait for each other's results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Memo:
    """Computes each thing once; whoever asks meanwhile waits for it.

    What raised an exception raises it again, but for those of a kind that is computed anew.

    Args:
        anew: That kind.

    Example:
        >>> memo = Memo()
        >>> memo("a", lambda: 1), memo("a", lambda: 2)
        (1, 1)
    """

    def __init__(self, anew: type[BaseException] | tuple[type[BaseException], ...] = ()) -> None:
        self.anew, self.lock = anew, threading.Lock()
        self.results: dict[object, Future[Any]] = {}

    def __call__(self, name: object, make: Callable[[], T]) -> T:
        """What ``make`` returned, the first time."""
        with self.lock:
            future = self.results.get(name)
            mine = future is None
            if future is None:
                future = self.results[name] = Future()
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
                if isinstance(error, self.anew):
                    with self.lock:
                        self.results.pop(name)
        found: T = future.result()
        return found


def in_threads(
    function: Callable[[U], T],
    values: Iterable[U],
    threads: int,
    stop: Callable[[BaseException], None],
) -> list[T]:
    """Apply a function to values, several at a time.

    Args:
        function: The function.
        values: The values.
        threads: How many at a time.
        stop: Called with an exception that ends it, so that running ones end before they are
            waited for.
    """
    values = list(values)
    if not values:
        return []
    with ThreadPoolExecutor(max(1, min(threads, len(values)))) as pool:
        try:
            return list(pool.map(function, values))
        except BaseException as error:
            stop(error)
            raise
