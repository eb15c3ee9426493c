"""What the service counts, and the text by which Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pyg_kd.retrieval.service.board import (
    PATHS,
    SECONDS,
    SIZES,
    STATUSES,
    Board,
    Cells,
    bucket,
)

PATH = {path: place for place, path in enumerate(PATHS)}
STATUS = {status: place for place, status in enumerate(STATUSES)}
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    r"""Counts what one worker does, and tells what all did.

    Args:
        board: Where to count.

    Example:
        >>> metrics = Metrics(Board())
        >>> metrics.request("/recommend", 200, 0.003)
        >>> 'requests_total{path="/recommend",status="200"} 1' in metrics.text()
        True
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self._requests = board.own("requests")
        self._latency = board.own("latency").reshape(2, -1)
        self._batches = board.own("batches")
        self._open = board.own("open")

    @property
    def open(self) -> int:
        """Requests that this worker reads or answers."""
        return int(self._open[0])

    @open.setter
    def open(self, count: int) -> None:
        self._open[0] = count

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered, or given up."""
        self._count(path, status)
        row = self._latency[0 if path == "/recommend" else 1]
        row[bucket(SECONDS, seconds)] += 1
        row[-1] += int(seconds * 1e9)

    def refusal(self, status: int) -> None:
        """Count what was refused before it was a request, of which no path or time is known."""
        self._count("other", status)

    def _count(self, path: str, status: int) -> None:
        place = PATH.get(path, PATH["other"])
        self._requests[place * len(STATUSES) + STATUS.get(status, STATUS[0])] += 1

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch that was ranked."""
        self._batches[bucket(SIZES, size)] += 1
        self._batches[-1] += size
        self.board.own("ranking_ns")[:] += int(seconds * 1e9)

    def text(self) -> str:
        """All numbers of all workers, in the text format of Prometheus."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        board = self.board
        yield from _head("requests_total", "counter", "Requests by path and status; 0: others.")
        requests = board.total("requests").reshape(len(PATHS), len(STATUSES))
        for place, column in np.argwhere(requests).tolist():
            labels = {"path": PATHS[place], "status": STATUSES[column]}
            yield _line("requests_total", requests[place, column], labels)
        yield from _head(
            "request_seconds", "histogram", "From the head of a request to its answer."
        )
        for name, row in zip(
            ("/recommend", "other"), board.total("latency").reshape(2, -1), strict=True
        ):
            yield from _histogram("request_seconds", SECONDS, row, 1e-9, {"path": name})
        yield from _head("batch_size", "histogram", "Requests that were ranked together.")
        yield from _histogram("batch_size", SIZES, board.total("batches"), 1, {})
        for name, (kind, told, factor) in SINGLE.items():
            yield from _head(name, kind, told)
            source = name.removesuffix("_total").replace("_seconds", "_ns")
            yield _line(name, board.total(source)[0] * factor, {})
        yield from _head("bundle", "gauge", "Workers that serve the bundle of this digest.")
        digests = board.digests()
        for digest in sorted({*digests}):
            yield _line("bundle", digests.count(digest), {"digest": digest})


SINGLE = {
    "ranking_seconds_total": ("counter", "Seconds spent on ranking.", 1e-9),
    "followed_total": ("counter", "Records of the log of events that workers took in.", 1),
    "damaged_total": ("counter", "Damaged records of the log that were passed over.", 1),
    "swaps_total": ("counter", "Bundles that took the place of another.", 1),
    "refused_total": ("counter", "Bundles that were refused.", 1),
    "waiting": ("gauge", "Requests that wait to be ranked.", 1),
    "open": ("gauge", "Requests that are being read or answered.", 1),
    "ready": ("gauge", "Workers that are ready.", 1),
}


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# HELP pyg_kd_{name} {told}"
    yield f"# TYPE pyg_kd_{name} {kind}"


def _line(name: str, value: float, labels: Mapping[str, object]) -> str:
    listed = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"pyg_kd_{name}{{{listed}}} {value:.10g}" if labels else f"pyg_kd_{name} {value:.10g}"


def _histogram(
    name: str, bounds: tuple[float, ...], row: Cells, factor: float, labels: Mapping[str, object]
) -> Iterator[str]:
    """The classes of a histogram, each with all below it; ``row`` ends with the sum of values."""
    below = np.cumsum(row[:-1]).tolist()
    for bound, count in zip((*bounds, "+Inf"), below, strict=True):
        yield _line(f"{name}_bucket", count, {**labels, "le": bound})
    yield _line(f"{name}_sum", row[-1] * factor, labels)
    yield _line(f"{name}_count", below[-1], labels)
