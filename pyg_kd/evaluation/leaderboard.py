"""Models side by side: accuracy, size and cost, as a table, a file and a figure."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from torch_geometric.data import HeteroData

from pyg_kd.alignment import aligned
from pyg_kd.evaluation.full_ranking import evaluate
from pyg_kd.files import atomic_write
from pyg_kd.models import Recommender
from pyg_kd.training.ensemble import num_bytes
from pyg_kd.training.history import History


class Leaderboard:
    r"""Measures models on the same targets, over the whole catalogue.

    With :math:`m` the first metric, a row's share of the gap is
    :math:`(m - m_\text{baseline}) / (m_\text{teacher} - m_\text{baseline})`.

    Args:
        data: The training graph.
        test_data: Targets in ``edge_label_index``.
        k: Length of the lists.
        metrics: Names of metrics; the first one ranks the models.
        teacher: The row that is one side of the gap.
        baseline: The row that is the other side.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import EASE, MF
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=200, num_items=100, num_edges=4_000)[0]
        >>> train, val, test = UserSplit(seed=0)(data)
        >>> board = Leaderboard(train, test, k=10)
        >>> board.add("teacher", EASE(train))
        >>> board.add("student alone", MF(train, dim=4))
        >>> print(str(board).splitlines()[0])
        model          width   bytes  recall@10  ndcg@10  s/epoch  gap closed
    """

    def __init__(
        self,
        data: HeteroData,
        test_data: HeteroData,
        *,
        k: int = 20,
        metrics: Sequence[str] = ("recall", "ndcg"),
        teacher: str = "teacher",
        baseline: str = "student alone",
    ) -> None:
        self.data, self.test_data, self.k, self.metrics = data, test_data, k, tuple(metrics)
        self.sides = teacher, baseline
        self.rows: dict[str, dict[str, Any]] = {}
        self.histories: dict[str, History] = {}

    @property
    def metric(self) -> str:
        """The metric that ranks the models."""
        return f"{self.metrics[0]}@{self.k}"

    def add(
        self,
        name: str,
        *models: Recommender,
        history: History | None = None,
        size: int | None = None,
    ) -> None:
        r"""Measure a model, or the mean of several that differ in their seed.

        Args:
            name: The name of the row.
            models: The models.
            history: How the first of them was trained.
            size: Bytes of what a model holds, where that isn't its tensors.

        Raises:
            ValueError: If there is no model, or the name is taken.
        """
        if not models:
            raise ValueError(f"'models' must hold a model or more (got none for {name!r})")
        if name in self.rows:
            raise ValueError(f"'name' must be new (got {name!r}, which has a row)")
        first = models[0]
        if history is not None:
            self.histories[name] = history
        found = [
            evaluate(model, self.data, self.test_data, k=self.k, metrics=self.metrics)
            for model in models
        ]
        self.rows[name] = {
            "width": first.out_dim if first.latent else None,
            "bytes": num_bytes(first) if size is None else size,
            **{key: mean(one[key] for one in found) for key in found[0]},
            "s/epoch": None if history is None else mean(history["seconds"]),
            "seeds": [one[self.metric] for one in found],
        }

    def gap_closed(self, name: str) -> float | None:
        """The share of the gap that a row closes; ``None`` if there is no gap."""
        if any(side not in self.rows for side in self.sides):
            return None
        high, low = (self.rows[side][self.metric] for side in self.sides)
        share: float = (self.rows[name][self.metric] - low) / (high - low) if high > low else 0.0
        return share if high > low else None

    def to_json(self, path: str | os.PathLike[str], **more: Any) -> None:
        """Write the rows to a JSON file, with anything else that is given, atomically."""
        rows = [
            {"model": name, **row, "gap closed": self.gap_closed(name)}
            for name, row in self.rows.items()
        ]
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({**more, "rows": rows}, indent=1), encoding="utf-8")

    def plot(self, path: str | os.PathLike[str], title: str = "") -> None:
        r"""Draw training curves and accuracy against size to a file, by Matplotlib.

        Args:
            path: The file; its ending tells the format.
            title: A title.

        Raises:
            ModuleNotFoundError: If Matplotlib is missing.
        """
        from pyg_kd.evaluation.leaderboard_figure import draw

        draw(self.rows, self.histories, self.metric, Path(path), title)

    def __str__(self) -> str:
        shown = [f"{name}@{self.k}" for name in self.metrics]
        lines = [["model", "width", "bytes", *shown, "s/epoch", "gap closed"]]
        for name, row in self.rows.items():
            closed = self.gap_closed(name)
            lines.append(
                [
                    name,
                    "-" if row["width"] is None else str(row["width"]),
                    f"{row['bytes']:,}",
                    *(f"{row[metric]:.4f}" for metric in shown),
                    "-" if row["s/epoch"] is None else f"{row['s/epoch']:.2f}",
                    "-" if closed is None else f"{closed:.0%}",
                ]
            )
        return aligned(lines)
