"""The command ``reproduce``."""

from __future__ import annotations

from pyg_kd.cli.options.reproduce import Repeated


def reproduce(repeated: Repeated) -> int:
    """Repeat a run, and tell whether the same comes out, to the last digit.

    What is compared are all metrics, and the bytes of all models and of the bundle. The result is
    printed as JSON; the exit code is 0 if all is the same, and 1 if not. It is refused if a file
    that the run has read has changed.
    """
    from pyg_kd.cli.pipeline.reproduce import run_again

    return run_again(repeated)
