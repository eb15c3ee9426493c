"""A metric in each of some groups, with intervals, beside a reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_kd.alignment import aligned
from pyg_kd.evaluation.intervals import Interval, fieller_interval, t_interval

#: The slice of everyone, first in each table.
ALL = "all"


@dataclass(frozen=True)
class Slice:
    """A metric in one group.

    Args:
        name: Of the group.
        users: How many users have a value in it.
        value: The mean of the metric over these users.
        interval: Its 95 % interval; ``None`` for fewer than two users.
        reference: The mean of the reference, the teacher for example, over the same users.
        difference: ``value - reference``.
        difference_interval: Of the paired differences.
        retention: ``value / reference``.
        retention_interval: By Fieller; infinite where the reference may be zero.
    """

    name: str
    users: int
    value: float
    interval: Interval | None
    reference: float | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    retention: float | None = None
    retention_interval: Interval | None = None


@dataclass(frozen=True)
class SliceTable:
    """The slices of one grouping; ``print`` shows them as a table.

    Args:
        title: What the groups are.
        metric: The metric, like ``"recall@20"``.
        rows: Group by group, often after ``"all"`` together.
    """

    title: str
    metric: str
    rows: tuple[Slice, ...]

    def __iter__(self) -> Iterator[Slice]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Slice:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r} is no slice; there are {[row.name for row in self.rows]}")

    @property
    def worst(self) -> Slice:
        """The group with the lowest retention; without a reference, with the lowest value."""
        groups = [row for row in self.rows if row.users and row.name != ALL] or list(self.rows)
        known = [row for row in groups if row.retention is not None]
        return min(known or groups, key=lambda row: (row.value, row.retention)[bool(known)] or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The table as plain values."""
        return {
            "title": self.title,
            "metric": self.metric,
            "rows": [dict(vars(row)) for row in self.rows],
            "worst": self.worst.name,
        }

    def cells(self) -> list[list[str]]:
        """The table as text, header first."""
        full = self.rows[0].reference is not None
        header = [self.title, "users", self.metric, "95 %"]
        lines = [header + (["reference", "retention", "95 %"] if full else [])]
        for row in self.rows:
            line = [row.name, f"{row.users:,}", f"{row.value:.4f}", _text(row.interval, 4)]
            if full:
                line += [
                    "-" if row.reference is None else f"{row.reference:.4f}",
                    "-" if row.retention is None else f"{row.retention:.3f}",
                    _text(row.retention_interval, 3),
                ]
            lines.append(line)
        return lines

    def __str__(self) -> str:
        return aligned(self.cells())


def make_slice(
    name: str, values: NDArray[np.float64], reference: NDArray[np.float64] | None
) -> Slice:
    """The slice of some users' values ``[m]``, and of the reference's."""
    if not len(values):
        return Slice(name, 0, float("nan"), None)
    mean, interval = float(values.mean()), t_interval(values)
    if reference is None:
        return Slice(name, len(values), mean, interval)
    other = float(reference.mean())
    return Slice(
        name,
        len(values),
        mean,
        interval,
        other,
        mean - other,
        t_interval(values - reference),
        mean / other if other else None,
        fieller_interval(values, reference) if other else None,
    )


def _text(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return "-"
    return "..".join(f"{end:.{digits}f}" for end in interval)
