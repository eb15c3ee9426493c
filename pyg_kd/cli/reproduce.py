"""The command ``reproduce``."""

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


def reproduce(repeated: Repeated) -> int:
    """Repeat a run, and tell whether the same comes out, to the last digit.

    What is compared are all metrics, and the bytes of all models and of the bundle. The result is
    printed as JSON; the exit code is 0 if all is the same, and 1 if not. It is refused if a file
    that the run has read has changed.
    """
    from pyg_kd.cli.pipeline.reproduce import run_again

    return run_again(repeated)
