"""What a search has tried, in memory and in its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyg_kd.json_files import read_json, write_json
from pyg_kd.study.tuning.space import Range, Setting

FORMAT = "pyg_kd.tuning.1"

COMPLETE, PRUNED, FAILED = "complete", "ended early", "failed"


@dataclass(frozen=True)
class Trial:
    r"""A setting that was tried.

    Args:
        number: Its number; 0 is the recipe.
        setting: Its values.
        numbers: What was searched of each value.
        value: Its best validation value; of one that was ended early, what it had reached.
        state: ``"complete"``, ``"ended early"`` or ``"failed"``.
        seconds: How long it took.
        curve: Epochs, from 0, and the values there.
    """

    number: int
    setting: Setting
    numbers: dict[str, float]
    value: float | None
    state: str
    seconds: float
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Tuning:
    r"""A search.

    Args:
        metric: What is validated.
        space: The ranges.
        trials: The trials, in their order.
        interrupted: Whether the keyboard ended it.
    """

    metric: str
    space: dict[str, Range]
    trials: tuple[Trial, ...] = ()
    interrupted: bool = field(default=False, compare=False)

    @property
    def complete(self) -> list[Trial]:
        """The trials that were trained to their end."""
        return [trial for trial in self.trials if trial.state == COMPLETE]

    @property
    def best(self) -> Trial:
        r"""The best trial, the earlier of equal ones.

        Raises:
            ValueError: If none is complete.
        """
        if not self.complete:
            raise ValueError("no trial was trained to its end: give more minutes")
        return max(self.complete, key=lambda trial: (trial.value or 0.0, -trial.number))

    @property
    def best_value(self) -> float:
        """The value of the best trial."""
        return -math.inf if self.best.value is None else self.best.value

    @property
    def default(self) -> Trial | None:
        """The trial of the recipe, if it is complete."""
        return next((trial for trial in self.complete if trial.number == 0), None)

    @property
    def seconds(self) -> float:
        """How long all trials took."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def edges(self) -> list[str]:
        """Names whose best value lies at an end of its range."""
        if not self.complete:
            return []
        return [n for n, found in self.space.items() if found.at_edge(self.best.numbers[n])]

    def __repr__(self) -> str:
        best = f"{self.best_value:.4f}" if self.complete else "nothing yet"
        return f"Tuning({len(self.trials)} trials, {self.metric}={best})"


def read_trials(path: Path, name: str, space: Mapping[str, Range], metric: str) -> list[Trial]:
    r"""The trials of a search in a file; none if it has none of this name.

    Raises:
        ValueError: If the file is damaged, or the search is one of other ranges or metrics.
    """
    found = _searches(path).get(name)
    if found is None:
        return []
    try:
        if found["space"] != _described(space) or found["metric"] != metric:
            raise ValueError(
                f"'{path}' holds a search {name!r} of other ranges or metrics: use another"
            )
        return [
            Trial(**{**trial, "curve": tuple((s, v) for s, v in trial["curve"])})
            for trial in found["trials"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is damaged: {error} in the search {name!r}") from error


def write_trials(path: Path, name: str, found: Tuning) -> None:
    """Write the trials of a search to a file, which may hold others, atomically."""
    told = {
        "metric": found.metric,
        "space": _described(found.space),
        "trials": [asdict(trial) for trial in found.trials],
    }
    write_json(path, {"format": FORMAT, "searches": {**_searches(path), name: told}})


def _searches(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = read_json(path)
    searches = found.get("searches")
    if found.get("format") != FORMAT or not isinstance(searches, dict):
        raise ValueError(f"'{path}' holds no trials of a tuning: its format is not {FORMAT!r}")
    return searches


def _described(space: Mapping[str, Range]) -> dict[str, list[float]]:
    return {name: [found.first, found.low, found.high] for name, found in space.items()}
