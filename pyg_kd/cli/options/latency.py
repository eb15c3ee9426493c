"""The options of the command ``latency``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pyg_kd.checks import require_seed


@dataclass(frozen=True)
class Timed:
    """What is timed

    Args:
        source: The folder of a bundle; or of a run, whose models are then timed side by side and
            measured on its test interactions.
        teacher: The folder of a bundle to compare with; that of a run has its own.
        dtypes: Further precisions of the tables to time: float32, float16, int8 or int4.
        k: Length of the lists.
        batch: Users in a request.
        bulk: Users in a call that is timed for users a second; 0 leaves that out.
        requests: How many requests are timed as a whole, and again by parts.
        warmup: How many go before.
        exclude_seen: Leave out what a user has seen.
        propagation: Time what the teacher of a run computes before there are vectors, too.
        threads: Number of threads, each pinned to a processor.
        seed: Which users are drawn.
    """

    source: str = field(metadata={"positional": True})
    teacher: str | None = None
    dtypes: list[str] | None = None
    k: int = 20
    batch: int = 1
    bulk: int = 256
    requests: int = 1000
    warmup: int = 100
    exclude_seen: bool = True
    propagation: bool = True
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(seed=self.seed)


@dataclass(frozen=True)
class Shown:
    """How it is shown

    Args:
        format: A table, a table in Markdown, or everything as JSON.
        figure: File for a figure of accuracy against bytes and against latency; needs a run.
        progress: Show progress on standard error.
    """

    format: Literal["table", "markdown", "json"] = "table"
    figure: str | None = None
    progress: bool = True
