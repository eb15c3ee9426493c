"""What happened in a run, one row per epoch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_kd.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class History:
    r"""Losses, validation metrics and seconds of every epoch.

    Args:
        rows: One dictionary of numbers per epoch.

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
        """Write the rows to a JSON file with a checksum, atomically."""
        content = {"best_epoch": self.best_epoch, "rows": self.rows}
        text = json.dumps(content | {"sha256": _digest(content)})
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> History:
        r"""Read what :meth:`to_json` wrote. Files without a checksum are read too.

        Args:
            path: The file.

        Raises:
            ValueError: If the file is truncated, damaged or not a history.
        """
        try:
            found = json.loads(Path(path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} is truncated, or not a history ({error})") from error
        if not isinstance(found, dict) or found.keys() - {"sha256"} != {"best_epoch", "rows"}:
            raise ValueError(f"{str(path)!r} is not a history")
        checksum = found.pop("sha256", None)
        if checksum not in (None, _digest(found)):
            raise ValueError(f"{str(path)!r} is damaged: its checksum does not fit its content")
        rows, best_epoch = found["rows"], found["best_epoch"]
        if not isinstance(rows, list) or not all(map(is_row, rows)):
            raise ValueError(f"{str(path)!r} is not a history: its rows are not all numbers")
        if best_epoch is not None and not is_count(best_epoch):
            raise ValueError(f"{str(path)!r} is not a history: 'best_epoch' is {best_epoch!r}")
        history = cls(rows)
        history.best_epoch = best_epoch
        return history

    def plot(self, name: str, ax: Axes | None = None, label: str | None = None) -> Axes:
        r"""Draw a column over the epochs.

        Args:
            name: The column.
            ax: Where to draw; the current axes by default.
            label: Name of the line in a legend; that of the column by default.

        Raises:
            ImportError: If Matplotlib is missing.
            KeyError: If no epoch has such a value.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                "History.plot needs Matplotlib: pip install 'pyg_kd[plot]'"
            ) from error
        ax = plt.gca() if ax is None else ax
        epochs = [row["epoch"] + 1 for row in self.rows if name in row]
        ax.plot(epochs, self[name], marker=".", label=label or name)
        ax.set_xlabel("epoch")
        ax.set_ylabel(name)
        return ax

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, best_epoch={self.best_epoch})"


def is_count(value: object) -> bool:
    """Whether a value read from a file is an integer of 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_row(value: object) -> bool:
    """Whether a value read from a file is a row of a history: numbers by name."""
    return isinstance(value, dict) and all(
        isinstance(k, str) and isinstance(v, Real) and not isinstance(v, bool)
        for k, v in value.items()
    )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
