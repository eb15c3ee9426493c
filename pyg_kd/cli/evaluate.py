"""The command ``evaluate``."""

from __future__ import annotations

from pyg_kd.cli.options.evaluate import Evaluated


def evaluate(evaluated: Evaluated) -> None:
    """Measure the models of a run, or a bundle, and print the metrics as JSON.

    Every item that a user has not seen is ranked.
    """
    from pyg_kd.cli.pipeline.evaluate import run_evaluation

    run_evaluation(evaluated)
