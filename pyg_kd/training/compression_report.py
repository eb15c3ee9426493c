"""What a compression tried, chose and took."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

from pyg_kd.alignment import aligned
from pyg_kd.training.history import History


@dataclass
class Row:
    """A model: its validation metric, the seconds it took, and the bytes of its tables."""

    name: str
    value: float | None
    seconds: float
    bytes: int | None = None


@dataclass
class CompressionReport:
    r"""What :func:`~pyg_kd.compress` tried and chose; ``print`` shows it as a table.

    Args:
        metric: The validation metric.
        rows: Everything that was measured, by the order of its making.
        weights: The teachers and their weights in the ensemble; 0 for one that did not help.
        skipped: Teachers for which the budget left no time.
        epochs: Epochs of the student.
        history: How the student was trained; not part of :meth:`to_dict`.

    Example:
        >>> report = CompressionReport("recall@20", weights=[("als", 1.0)])
        >>> report.add("als", 0.25, 3.0)
        >>> print(report)
        model  recall@20  seconds  bytes  weight
        als       0.2500      3.0      -     1.0
    """

    metric: str
    rows: list[Row] = field(default_factory=list)
    weights: list[tuple[str, float]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    epochs: int = 0
    history: History | None = None

    @property
    def names(self) -> list[str]:
        """The names of the rows."""
        return [row.name for row in self.rows]

    @property
    def seconds(self) -> float:
        """Seconds of all rows together."""
        return sum(row.seconds for row in self.rows)

    def add(
        self,
        name: str,
        value: float | None,
        seconds: float,
        size: int | None = None,
        *,
        place: int | None = None,
    ) -> None:
        """Add a row, at the end or at a place."""
        self.rows.insert(
            len(self.rows) if place is None else place, Row(name, value, seconds, size)
        )

    def value(self, name: str) -> float | None:
        """The metric of the first row of a name; ``None`` if it is unknown."""
        return next((row.value for row in self.rows if row.name == name), None)

    def to_dict(self) -> dict[str, object]:
        """The report as plain values."""
        found = asdict(replace(self, history=None))
        del found["history"]
        return found

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        weights = [str(weight) for _, weight in self.weights]
        lines = [["model", self.metric, "seconds", "bytes", "weight"]]
        teachers = [name for name, _ in self.weights]
        for row in self.rows:
            taught = bool(weights) and row.name == teachers[len(teachers) - len(weights)]
            lines.append(
                [
                    row.name,
                    "-" if row.value is None else f"{row.value:.4f}",
                    f"{row.seconds:.1f}",
                    "-" if row.bytes is None else f"{row.bytes:,}",
                    weights.pop(0) if taught else "",
                ]
            )
        return aligned(lines)
