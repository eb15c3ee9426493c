"""What failed in a study, told once."""

from __future__ import annotations

import sys

from pyg_kd.study.settings import Setting
from pyg_kd.study.store import Place


class Failures:
    """The runs of a study that failed, and why.

    Args:
        study: Its name.
    """

    def __init__(self, study: str) -> None:
        self.study, self.told = study, dict[str, str]()

    def add(self, place: Place, setting: Setting | None, seed: int | None, error: object) -> None:
        """Note a failure, and tell it on the standard error stream."""
        name = "/".join(place) + ("" if seed is None else f", seed {seed}")
        name += f", {setting}" if setting else ""
        if name not in self.told:
            self.told[name] = str(error)
            print(f"{self.study}: {name} failed: {error}", file=sys.stderr, flush=True)
