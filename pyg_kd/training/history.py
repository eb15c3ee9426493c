"""What happened in a run, one row an epoch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class History:
    r"""Losses, validation metrics and seconds of every epoch.

    Args:
        rows: One dictionary of numbers an epoch.

    Example:
        >>> history = History([{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}])
        >>> history["loss"]
        [2.0, 1.0]
    """

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows = rows or []
        self.best_epoch: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> list[float]:
        """A column: the values of ``name`` in the epochs that have one."""
        values = [row[name] for row in self.rows if name in row]
        if not values:
            raise KeyError(f"no epoch has a value {name!r}; there are {self.columns}")
        return values

    @property
    def columns(self) -> list[str]:
        """Names of all values, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a JSON file."""
        Path(path).write_text(json.dumps({"best_epoch": self.best_epoch, "rows": self.rows}))

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> History:
        """What :meth:`to_json` wrote."""
        found = json.loads(Path(path).read_text())
        if not isinstance(found, dict) or not {"best_epoch", "rows"} <= found.keys():
            raise ValueError(f"{str(path)!r} holds no history")
        history = cls(found["rows"])
        history.best_epoch = found["best_epoch"]
        return history

    def plot(self, name: str, ax: Axes | None = None, label: str | None = None) -> Axes:
        """Draw a column over the epochs; needs the extra ``plot``."""
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        epochs = [row["epoch"] + 1 for row in self.rows if name in row]
        ax.plot(epochs, self[name], marker=".", label=label or name)
        ax.set_xlabel("epoch")
        ax.set_ylabel(name)
        return ax

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, best_epoch={self.best_epoch})"
