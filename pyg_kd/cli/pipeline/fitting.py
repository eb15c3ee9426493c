"""Training a model of a run: from its checkpoint if it was interrupted, never twice."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.cli.console import note
from pyg_kd.cli.options import Machine, Metrics
from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.runs import Run
from pyg_kd.distill import Distillation
from pyg_kd.evaluation import evaluate
from pyg_kd.metrics.ranking_metrics import check_metrics
from pyg_kd.models import Recommender
from pyg_kd.models.state_files import load_state, save_state
from pyg_kd.training import Trainer
from pyg_kd.training.history import History
from pyg_kd.training.validation import parse_metric

#: The option of the trainer that goes by another name on the command line.
RENAMED = {"epochs": "max_epochs"}


def use_threads(machine: Machine) -> Machine:
    """Set PyTorch's number of threads, and say how many there are."""
    if machine.threads is not None:
        if machine.threads < 1:
            raise ValueError(f"'threads' must be a positive integer (got {machine.threads})")
        torch.set_num_threads(machine.threads)
    return replace(machine, threads=torch.get_num_threads())


def check_wanted(metrics: Metrics, metric: str) -> None:
    """Raise ``ValueError`` if a metric or the length of a list is out of range."""
    if not metrics.k or not metrics.metrics:
        raise ValueError(f"'k' and 'metrics' must not be empty (got {metrics})")
    for k in metrics.k:
        require_count(k=k)
    check_metrics(metrics.metrics)
    parse_metric(metric)


#: Options of the trainer that a run decides.
RESERVED = {
    "max_epochs", "seed", "metric", "evaluator", "checkpoint_dir", "accelerator", "progress",
}  # fmt: skip


def check_training(name: str, options: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if an option is none of the trainer's, or there is no such loss."""
    known = sorted(set(signature(Trainer).parameters) - RESERVED)
    for option in options:
        if option not in known:
            raise ValueError(f"{name!r} has no option {option!r}: it has {', '.join(known)}")
    _loss_made("loss", options.get("loss"))


def best_epochs(history: History) -> int:
    """How many epochs were best, all of them if nothing was validated."""
    return len(history) if history.best_epoch is None else history.best_epoch + 1


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
        note(f"{name}: {' + '.join([repr(model), *(repr(method) for method, _ in distillations)])}")
        trainer = make_trainer(options, machine, run.checkpoints(name))
        with warnings.catch_warnings():
            # That a student passes its teacher is no reason to worry: see Comparison.doubts.
            warnings.filterwarnings("ignore", message="the teacher is no better than its student")
            history = trainer.fit(
                model, graph, val_data=val, distillations=distillations, resume=True
            )
        save_state(model, run.state(name))
    history.to_json(run.history(name))
    shutil.rmtree(run.checkpoints(name), ignore_errors=True)
    return history


def make_trainer(
    options: Mapping[str, Any], machine: Machine, checkpoints: Path | None = None
) -> Trainer:
    r"""The trainer of a model.

    Args:
        options: Its options, by the names of the command line.
        machine: Seed and device.
        checkpoints: Folder of the checkpoint.

    Raises:
        ValueError: If an option is unknown, of another type or out of range.
    """
    given = {RENAMED.get(key, key): _loss_made(key, value) for key, value in options.items()}
    try:
        return Trainer(
            seed=machine.seed,
            accelerator=machine.device,
            progress=machine.progress,
            checkpoint_dir=checkpoints,
            **given,
        )
    except (TypeError, ValueError) as error:
        message = str(error).replace("'accelerator'", "'device'")
        for ours, theirs in RENAMED.items():
            message = message.replace(f"'{theirs}'", f"'{ours}'")
        raise ValueError(message) from error


def _loss_made(name: str, value: Any) -> Any:
    """An option of the trainer; of a loss that is told as a class with its options, that loss."""
    if name != "loss" or not isinstance(value, Mapping):
        return value
    from pyg_kd.study.building import make_loss

    return make_loss(value, "loss")


def metric_for(metric: str, num_items: int) -> str:
    """A metric like ``recall@20``, its list no longer than the catalogue.

    Example:
        >>> metric_for("recall@20", 12)
        'recall@12'
    """
    name, k = parse_metric(metric)
    return f"{name}@{min(k, num_items)}"


def trainer_options(options: Any) -> dict[str, Any]:
    """What the trainer is given of a group of options; what is still open is its own choice."""
    known = signature(Trainer).parameters
    given = {f.name: getattr(options, f.name) for f in fields(options)}
    return {
        name: value
        for name, value in given.items()
        if RENAMED.get(name, name) in known and (value is not None or name == "patience")
    }


def measure(
    model: Recommender, graphs: Graphs, metrics: Metrics, metric: str, progress: bool = False
) -> dict[str, dict[str, float]]:
    r"""Metrics on the test interactions, and one metric on the validation interactions.

    Args:
        model: The model.
        graphs: The data.
        metrics: What is measured on the test interactions.
        metric: What is measured on the validation interactions.
        progress: Show progress.
    """
    ks = lengths(metrics, model.num_items)
    name, k = parse_metric(metric)
    found: dict[str, dict[str, float]] = {"test": {}, "validation": {}}
    if graphs.test is not None:
        found["test"] = evaluate(
            model, graphs.train, graphs.test, ks, metrics.metrics, progress=progress
        )
    if graphs.val is not None:
        found["validation"] = evaluate(model, graphs.train, graphs.val, k, [name])
    return found


def lengths(metrics: Metrics, num_items: int) -> list[int]:
    """The lengths of lists, each at most the catalogue."""
    return sorted({min(k, num_items) for k in metrics.k})
