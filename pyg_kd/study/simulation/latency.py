"""What waiting costs: an assumption, beside latencies that were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyg_kd.checks import require_at_least
from pyg_kd.study.simulation.clicks import require_share


class LatencyEffect:
    r"""The share of visits that wait for a list, by how long it takes.

    .. math::
        s(t) = (1 - p)^{t / 100\,\mathrm{ms}}

    **This is an assumption**, 0 unless the reader sets it. Claims reach from nothing measurable to
    1 % of sales for 100 ms; the often quoted 1 % is a remark about one shop before 2002, of which
    no data was published, and search engines reported 0.2 % to 0.6 % fewer searches for delays of
    100 to 400 ms. None of them was measured on recommendations.

    Args:
        per_100ms: :math:`p`, the share of visits lost for each 100 ms, from 0 to 1.

    Raises:
        ValueError: If ``per_100ms`` lies outside of 0..1.

    Example:
        >>> LatencyEffect(per_100ms=0.01).stay(200.0)
        0.9801
    """

    def __init__(self, per_100ms: float = 0.0) -> None:
        require_share(per_100ms=per_100ms)
        self.per_100ms = per_100ms

    def stay(self, milliseconds: float) -> float:
        """The share of visits that wait so long."""
        require_at_least(0, milliseconds=milliseconds)
        return float((1 - self.per_100ms) ** (milliseconds / 100))

    def __repr__(self) -> str:
        return f"LatencyEffect(per_100ms={self.per_100ms})"


def measured_latency(path: str | Path, row: str, statistic: str = "p50") -> float:
    """Milliseconds that a benchmark measured, from its JSON.

    Args:
        path: A file with ``rows`` or ``runs`` by name, as ``benchmarks/latency.py`` and
            ``benchmarks/service.py`` write.
        row: Which of them, such as ``"teacher"``.
        statistic: Which of its figures, such as ``"p50"``, ``"p95"``, ``"p99"`` or ``"mean"``.

    Raises:
        ValueError: If the file has no such row or figure.
    """
    content: Any = json.loads(Path(path).read_text())
    rows: dict[str, Any] = {}
    if isinstance(content, dict):
        rows = content.get("rows") or content.get("runs") or {}
    if row not in rows:
        raise ValueError(f"'row' must be one of {[*rows]} (got {row!r})")
    if statistic not in rows[row]:
        raise ValueError(f"'statistic' must be one of {[*rows[row]]} (got {statistic!r})")
    return float(rows[row][statistic])
