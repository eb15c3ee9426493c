"""The command ``study``."""

from __future__ import annotations

from pyg_kd.cli.options.study import Again, Studied, Studying


def study(studied: Studied, studying: Studying, again: Again) -> int:
    """Run a study: data sets x worlds x methods x seeds, and its report.

    A study that was stopped goes on where it was. Its folder holds a record of each run with the
    metrics of every user, and the report. With --run and --verify rows are run again from nothing
    and compared: the exit code is 1 if a metric differs by more than .001, or a run has failed.
    """
    from pyg_kd.cli.pipeline.study import run_or_verify

    return run_or_verify(studied, studying, again)
