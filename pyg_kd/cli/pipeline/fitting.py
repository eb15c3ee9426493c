"""Training a model of a run: from its checkpoint if it was interrupted, never twice."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_kd.cli.options import Machine, Metrics
from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.pipeline.models import load_state, save_state
from pyg_kd.cli.runs import Run
from pyg_kd.distill import Distillation
from pyg_kd.evaluation import evaluate
from pyg_kd.models import Recommender
from pyg_kd.training import Trainer
from pyg_kd.training.history import History

#: The option of the trainer that goes by another name on the command line.
RENAMED = {"epochs": "max_epochs"}


def use_threads(machine: Machine) -> Machine:
    """Set PyTorch's number of threads, and say how many there are."""
    if machine.threads is not None:
        if machine.threads < 1:
            raise ValueError(f"'threads' must be a positive integer (got {machine.threads})")
        torch.set_num_threads(machine.threads)
    return Machine(machine.seed, machine.device, torch.get_num_threads(), machine.progress)


def fit(
    run: Run,
    name: str,
    model: Recommender,
    graph: HeteroData,
    val: HeteroData | None,
    options: Mapping[str, Any],
    machine: Machine,
    distillations: Sequence[tuple[Distillation, float]] = (),
) -> History:
    r"""Train a model and keep its state and its history, or read those that are there.

    Args:
        run: The run.
        name: The name of the model in it.
        model: The model, its first weights drawn.
        graph: The training graph, with knowledge if there are distillations.
        val: Validation targets.
        options: Options of the trainer.
        machine: Seed and device.
        distillations: What is distilled.

    Raises:
        ValueError: If an option is out of range, or a file of the run is damaged.
        TrainingDiverged: If training does.
    """
    if run.state(name).exists() and run.history(name).exists():
        load_state(model, run.state(name))
        return History.from_json(run.history(name))
    history = History()
    if model.trainable:
        trainer = Trainer(
            seed=machine.seed,
            accelerator=machine.device,
            progress=machine.progress,
            checkpoint_dir=run.checkpoints(name),
            **{RENAMED.get(key, key): value for key, value in options.items()},
        )
        history = trainer.fit(model, graph, val_data=val, distillations=distillations, resume=True)
        save_state(model, run.state(name))
    history.to_json(run.history(name))
    shutil.rmtree(run.checkpoints(name), ignore_errors=True)
    return history


def metric_for(metric: str, num_items: int) -> str:
    """A metric like ``recall@20``, its list no longer than the catalogue.

    Example:
        >>> metric_for("recall@20", 12)
        'recall@12'
    """
    name, at, k = metric.partition("@")
    return f"{name}@{min(int(k), num_items)}" if at and k.isdigit() else metric


def measure(model: Recommender, graphs: Graphs, metrics: Metrics, progress: bool = False) -> Any:
    """Metrics on the test interactions; none if there are none."""
    if graphs.test is None:
        return {}
    ks = lengths(metrics, model.num_items)
    return evaluate(model, graphs.train, graphs.test, ks, metrics.metrics, progress=progress)


def lengths(metrics: Metrics, num_items: int) -> list[int]:
    """The lengths of lists, each at most the catalogue."""
    return sorted({min(k, num_items) for k in metrics.k})
