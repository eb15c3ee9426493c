"""What was measured, as a table, Markdown or JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from pyg_kd.alignment import aligned

#: The parts of a request, in order.
STAGES = ("look-up", "filter", "scoring", "top-k")

#: How percentiles are taken: a request that was measured, never a mean of two.
METHOD: Final = "inverted_cdf"


@dataclass(frozen=True)
class LatencyRow:
    r"""One index.

    Args:
        model: Its name.
        dim: Width of the vectors.
        dtype: Precision of the item table.
        backend: What ranks.
        nbytes: Bytes of both tables.
        p50: Median of the milliseconds of a request.
        p95: 95th percentile.
        p99: 99th percentile.
        mean: Mean.
        users_per_second: In bulk, by the median call; :obj:`None` if that was left out.
        stages: Median milliseconds of each part of a request.
        recall: Recall of the lists, if there are held-out items.
    """

    model: str
    dim: int
    dtype: str
    backend: str
    nbytes: int
    p50: float
    p95: float
    p99: float
    mean: float
    users_per_second: float | None
    stages: dict[str, float]
    recall: float | None = None


@dataclass(frozen=True)
class LatencyReport:
    r"""Latencies of one index or several, which took turns.

    Args:
        rows: The indexes.
        settings: What was asked, and how the process was held.
        machine: Where.

    Example:
        >>> row = LatencyRow("student", 20, "int8", "numpy", 22, 1.0, 2.0, 3.0, 1.1, None, {})
        >>> print(LatencyReport([row], {"k": 20, "batch": 1}).table().splitlines()[1].split()[:4])
        ['student', '20', 'int8', '22']
    """

    rows: Sequence[LatencyRow]
    settings: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=lambda: machine())

    def row(self, model: str) -> LatencyRow:
        """The row of a model.

        Raises:
            KeyError: If there is none.
        """
        for row in self.rows:
            if row.model == model:
                return row
        raise KeyError(f"no row {model!r}; there are {[row.model for row in self.rows]}")

    def table(self) -> str:
        """Aligned columns and, below them, how the first index compares with the teacher."""
        header, lines = self._cells()
        return "\n".join([aligned([header, *lines]), *self._notes()])

    def to_markdown(self) -> str:
        """A table in Markdown."""
        header, lines = self._cells()
        rule = ["---", *["---:"] * (len(header) - 1)]
        rows = ["| " + " | ".join(line) + " |" for line in [header, rule, *lines]]
        return "\n".join([*rows, "", *self._notes()])

    def to_dict(self) -> dict[str, Any]:
        """Everything, of types that JSON has."""
        rows = [asdict(row) for row in self.rows]
        return {"machine": self.machine, "settings": self.settings, "rows": rows}

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        header = ["model", "width", "dtype", "bytes", "p50 ms", "p95 ms", "p99 ms", "users/s"]
        header += [f"{stage} ms" for stage in STAGES]
        with_recall = any(row.recall is not None for row in self.rows)
        header += [f"Recall@{self.settings['k']}"] * with_recall
        return header, [self._line(row, with_recall) for row in self.rows]

    def _line(self, row: LatencyRow, with_recall: bool) -> list[str]:
        cells = [row.model, str(row.dim), row.dtype, f"{row.nbytes:,}"]
        cells += [_short(value) for value in (row.p50, row.p95, row.p99)]
        cells.append("-" if row.users_per_second is None else f"{row.users_per_second:,.0f}")
        cells += [_short(row.stages.get(stage)) for stage in STAGES]
        if with_recall:
            cells.append("-" if row.recall is None else f"{row.recall:.4f}")
        return cells

    def _notes(self) -> list[str]:
        names = [row.model for row in self.rows]
        if "teacher" not in names or len(names) < 2:
            return []
        teacher, other = self.row("teacher"), next(r for r in self.rows if r.model != "teacher")
        parts = [f"{teacher.p50 / other.p50:.3g} times as fast as the teacher by the median"]
        if teacher.users_per_second and other.users_per_second:
            ratio = other.users_per_second / teacher.users_per_second
            parts.append(f"{ratio:.3g} times as many users a second in bulk")
        parts.append(f"{other.nbytes / teacher.nbytes:.2g} of the bytes")
        return [f"{other.model}: {', '.join(parts)}"]


def machine() -> dict[str, Any]:
    """The machine, as far as it tells."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    return {
        "cpu": cpu,
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """``p50``, ``p95``, ``p99`` and ``mean`` of seconds, in milliseconds."""
    ms = 1e3 * np.asarray(times)
    found = np.percentile(ms, (50, 95, 99), method=METHOD).tolist()
    return {**dict(zip(("p50", "p95", "p99"), found, strict=True)), "mean": float(ms.mean())}


def _short(value: float | None) -> str:
    """Milliseconds to three digits."""
    if value is None:
        return "-"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
