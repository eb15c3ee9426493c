"""The options of the command ``tune``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Searched:
    """The search

    Args:
        minutes: How long to search for the student, and again for the student alone; the teacher
            comes on top. A recipe is tried at least, and trials that are under way end.
        trials: Trials of each at most.
    """

    minutes: float = 10.0
    trials: int | None = None
