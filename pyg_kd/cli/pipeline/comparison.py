"""The models of a run side by side."""

from __future__ import annotations

from typing import Any

from pyg_kd.alignment import aligned
from pyg_kd.cli.options import Metrics
from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.pipeline.fitting import measure
from pyg_kd.knowledge import Listed
from pyg_kd.models import Recommender
from pyg_kd.training.ensemble import num_bytes


class Comparison:
    r"""Measures models and tells them apart.

    Args:
        graphs: The data.
        metrics: What is measured on the test interactions.
        metric: What is measured on the validation interactions.
        progress: Show progress.
    """

    def __init__(self, graphs: Graphs, metrics: Metrics, metric: str, progress: bool) -> None:
        self.graphs, self.metrics, self.metric = graphs, metrics, metric
        self.progress = progress
        self.test: dict[str, dict[str, float]] = {}
        self.validation: dict[str, dict[str, float]] = {}
        self.sizes: dict[str, tuple[str, str]] = {}

    def add(self, name: str, model: Recommender, size: int | None = None) -> None:
        """Measure a model; ``size`` is the bytes of what its lists come from, if it has lists."""
        found = measure(model, self.graphs, self.metrics, self.metric, self.progress)
        self.test[name], self.validation[name] = found["test"], found["validation"]
        if isinstance(model, Listed):
            self.sizes[name] = "-", "-" if size is None else f"{size:,}"
        else:
            self.sizes[name] = str(model.out_dim), f"{num_bytes(model):,}"

    @property
    def result(self) -> dict[str, Any]:
        """All that was measured, the same each time a run is repeated."""
        return {"test": self.test, "validation": self.validation, "gap closed": self.gap_closed}

    def noted(self, name: str) -> dict[str, float]:
        """The metrics of a model on the test interactions, or else on those of validation."""
        return self.test[name] or self.validation[name]

    @property
    def gap_closed(self) -> dict[str, float]:
        """By metric, how much of the way from the student alone to the teacher is made."""
        if "student alone" not in self.test:
            return {}
        teacher, alone, student = (
            self.noted(name) for name in ("teacher", "student alone", "student")
        )
        return {
            metric: (student[metric] - alone[metric]) / (teacher[metric] - alone[metric])
            for metric in teacher
            if teacher[metric] > alone[metric]
        }

    def doubts(self) -> list[str]:
        """Why the result may not be worth much."""
        found = []
        for other, advice in (
            ("student alone", "train a better teacher, or serve the student alone"),
            ("most popular", "train it longer or with other options, or bring more interactions"),
        ):
            name, teacher, values = self._compared("teacher", other)
            if teacher <= values:
                found.append(
                    f"the teacher is no better than the {other} ({name} {teacher:.4f} and "
                    f"{values:.4f}): {advice}"
                )
        name, student, alone = self._compared("student", "student alone")
        if student < alone:
            found.append(
                f"the distilled student is worse than the student alone ({name} {student:.4f} and "
                f"{alone:.4f}): try other methods, weights or more epochs"
            )
        return found

    def _compared(self, one: str, other: str) -> tuple[str, float, float]:
        """A metric, of validation if there is any, and its values for two models."""
        part = "validation" if any(self.validation.values()) else "test"
        rows = self.validation if part == "validation" else self.test
        name = next(iter(rows[one]), None)
        if name is None or other not in rows:
            return "nothing", 1.0, 0.0
        return f"{part} {name}", rows[one][name], rows[other][name]

    def table(self) -> str:
        """The comparison, to be read."""
        part = "test" if any(self.test.values()) else "validation"
        rows = self.test if part == "test" else self.validation
        names = list(next(iter(rows.values())))
        head = [part, "width", "bytes", *names]
        lines = [head] + [
            [model, *self.sizes[model]] + [f"{values[name]:.4f}" for name in names]
            for model, values in rows.items()
        ]
        if self.gap_closed:
            closed = [_share(self.gap_closed.get(name)) for name in names]
            lines.append(["gap closed", "", "", *closed])
        return aligned(lines)


def _share(closed: float | None) -> str:
    """How much of a gap is closed; far beyond a narrow one the number says little."""
    if closed is None:
        return "-"
    return f"{closed:.0%}" if abs(closed) <= 2 else ">200%" if closed > 0 else "<-200%"
