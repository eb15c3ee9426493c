"""The command ``train``."""

from __future__ import annotations

from pyg_kd.cli.options import Bundle, Data, Machine, Metrics, Output
from pyg_kd.cli.options.train import Model, Training


def train(
    data: Data,
    model: Model,
    training: Training,
    metrics: Metrics,
    machine: Machine,
    bundle: Bundle,
    output: Output,
) -> None:
    """Train a model on interactions and test it.

    The folder --out then holds the model, its history, the metrics, all options and what they
    depend on. The metrics are printed as JSON.
    """
    from pyg_kd.cli.pipeline.train import run_training

    run_training(data, model, training, metrics, machine, bundle, output)
