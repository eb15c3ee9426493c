"""Sweeps of a width or a weight: what is kept, what it costs, and where it breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from pyg_kd.alignment import aligned
from pyg_kd.checks import require_positive
from pyg_kd.evaluation import PerUser, evaluate
from pyg_kd.evaluation.intervals import Interval, fieller_interval
from pyg_kd.metrics.ranking_metrics import parse_metric
from pyg_kd.models import Recommender
from pyg_kd.progress import Progress
from pyg_kd.study.breaking_point import bend, kept_range
from pyg_kd.training.ensemble import num_bytes

#: What of the reference a student must keep.
THRESHOLD = 0.9


@dataclass(frozen=True)
class Point:
    """One value of a sweep.

    Args:
        value: The width or weight.
        metric: The metric of its model.
        retention: The metric over the reference's.
        interval: The 95 % interval of the retention over users, by Fieller.
        cpu_seconds: Seconds of processors in training it.
        seconds: Wall-clock seconds.
        size_bytes: Bytes of the model.
    """

    value: float
    metric: float
    retention: float
    interval: Interval | None
    cpu_seconds: float
    seconds: float
    size_bytes: int


@dataclass(frozen=True)
class Sweep:
    r"""A sweep; ``print`` shows it as a table.

    Args:
        name: Of what was varied.
        metric: The metric.
        reference: The reference's value.
        threshold: What of it is to be kept.
        points: By ascending value.
    """

    name: str
    metric: str
    reference: float
    threshold: float
    points: tuple[Point, ...]

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    @property
    def range(self) -> tuple[float, float] | None:
        """Between which values retention stays above the threshold."""
        return kept_range(self.values, self.retention, self.threshold)

    @property
    def bend(self) -> float | None:
        """The value from which more hardly helps; ``None`` for fewer than four values."""
        return bend(self.values, self.retention)

    @property
    def values(self) -> list[float]:
        """The values, ascending."""
        return [point.value for point in self.points]

    @property
    def retention(self) -> list[float]:
        """The retention at each value."""
        return [point.retention for point in self.points]

    def to_dict(self) -> dict[str, Any]:
        """The sweep as plain values."""
        return {**asdict(self), "range": self.range, "bend": self.bend}

    def __str__(self) -> str:
        lines = [[self.name, self.metric, "retention", "95 %", "CPU s", "bytes"]]
        for p in self.points:
            ends = "-" if p.interval is None else "..".join(f"{e:.3f}" for e in p.interval)
            lines.append(
                [f"{p.value:g}", f"{p.metric:.4f}", f"{p.retention:.3f}", ends,
                 f"{p.cpu_seconds:.1f}", f"{p.size_bytes:,}"]
            )  # fmt: skip
        return "\n".join([aligned(lines), verdict(self)])


def sweep(
    make: Callable[[float], Recommender],
    values: Sequence[float],
    data: HeteroData,
    target_data: HeteroData,
    *,
    reference: Recommender,
    name: str = "width",
    metric: str = "recall@20",
    threshold: float = THRESHOLD,
    progress: bool = False,
) -> Sweep:
    r"""Train a student at each value of an option, and find where it breaks.

    Args:
        make: Trains a student, ``make(width)`` for example, and returns it.
        values: What to try; each is positive.
        data: The training graph.
        target_data: Targets in ``edge_label_index``: those of validation, as long as something is
            chosen by the outcome.
        reference: The teacher.
        name: Of what is varied.
        metric: The metric.
        threshold: What of the teacher a student has to keep.
        progress: Show a progress bar.

    Raises:
        ValueError: If there is no value, one is not positive or repeated, or the reference's
            metric is 0.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF, EASE
        >>> from pyg_kd.training import AlternatingLeastSquares
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=100, num_items=60, num_edges=1_500)[0]
        >>> train, val, test = UserSplit(seed=0)(data)
        >>> als = AlternatingLeastSquares(progress=False)
        >>> widths = sweep(
        ...     lambda dim: als.fit(MF(train, int(dim)), train), (2, 4, 8, 16), train, val,
        ...     reference=EASE(train),
        ... )
        >>> [int(point.size_bytes) for point in widths]
        [1280, 2560, 5120, 10240]
    """
    parse_metric(metric)
    require_positive(threshold=threshold, **{f"values[{i}]": v for i, v in enumerate(values)})
    if not values or len(set(values)) < len(values):
        raise ValueError(f"'values' must be one or more, each once (got {tuple(values)})")
    against = _measured(reference, data, target_data, metric)
    if not against.mean[metric]:
        raise ValueError(f"'reference' must find something (got {metric} of 0)")
    points = []
    with Progress(f"sweep of {name}", len(values), unit="student", shown=progress) as bar:
        for value in sorted(values):
            started, cpu = time.monotonic(), time.process_time()
            model = make(value)
            seconds, cpu = time.monotonic() - started, time.process_time() - cpu
            found = _measured(model, data, target_data, metric)
            points.append(_point(value, found, against, metric, (cpu, seconds), model))
            bar.update()
    return Sweep(name, metric, against.mean[metric], threshold, tuple(points))


def _measured(model: Recommender, data: HeteroData, targets: HeteroData, metric: str) -> PerUser:
    name, k = parse_metric(metric)
    return evaluate(model, data, targets, k, (name,), per_user=True)


def _point(
    value: float,
    found: PerUser,
    against: PerUser,
    metric: str,
    seconds: tuple[float, float],
    model: Recommender,
) -> Point:
    own, other = (run.values[metric].cpu().double().numpy() for run in (found, against))
    mean, reference = found.mean[metric], against.mean[metric]
    interval = fieller_interval(own, other)
    return Point(value, mean, mean / reference, interval, *seconds, num_bytes(model))


def verdict(found: Sweep) -> str:
    """Where the sweep breaks, in a sentence."""
    kept = f"{100 * found.threshold:.0f} % of the reference"
    if found.range is None:
        return f"No {found.name} keeps {kept}."
    low, high = found.range
    ends = [f"from {low:.3g} on" if low else "", f"up to {high:.3g}" if np.isfinite(high) else ""]
    where = " ".join(end for end in ends if end) or "at every value tried"
    tail = "" if found.bend is None else f" The curve flattens at about {found.bend:.3g}."
    return f"{kept} is kept {where}.{tail}"
