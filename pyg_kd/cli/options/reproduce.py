"""The options of the command ``reproduce``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Repeated:
    """What is repeated

    Args:
        run: The folder of a run of train or distill.
        out: Where to keep the repetition; a temporary folder by default.
    """

    run: str = field(metadata={"positional": True})
    out: str | None = None
