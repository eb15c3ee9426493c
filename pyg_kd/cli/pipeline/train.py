"""What ``train`` does."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from pyg_kd.cli.console import note, show_json
from pyg_kd.cli.options import Data, Machine, Metrics, Output
from pyg_kd.cli.pipeline import recipes
from pyg_kd.cli.pipeline.data import Graphs, options_of, read_graphs, source_file
from pyg_kd.cli.pipeline.fitting import fit, measure, metric_for, use_threads
from pyg_kd.cli.pipeline.models import make_model
from pyg_kd.cli.runs import begin
from pyg_kd.cli.train import Model, Training, flat


def run_training(
    data: Data,
    model: Model,
    training: Training,
    metrics: Metrics,
    machine: Machine,
    output: Output,
) -> None:
    """Train, test and write the run."""
    source = source_file(data.interactions)
    data = Data(**options_of(data))
    given = flat(data, model, training, metrics, machine)
    machine = use_threads(machine)
    inputs = [] if source is None else [source]
    with begin(output.out, "train", given, inputs, output.overwrite) as run:
        graphs = read_graphs(data)
        note(described(graphs))
        run.update(data=graphs.sizes, fingerprints=graphs.fingerprints)
        model, training = resolved(model, training, graphs)
        run.write_config(flat(data, model, training, metrics, machine))
        made = make_model(model.model, graphs.train, model.dim, model.model_options, machine.seed)
        options = trainer_options(training)
        fit(run, "model", made, graphs.train, graphs.val, options, machine)
        found = {"test": {"model": measure(made, graphs, metrics, machine.progress)}}
        run.write_metrics(found)
    show_json(found)


def described(graphs: Graphs) -> str:
    """The sizes of the data, in words."""
    sizes = graphs.sizes
    return ", ".join(f"{sizes[name]:,} {name}" for name in ("users", "items", "interactions"))


def resolved(model: Model, training: Training, graphs: Graphs) -> tuple[Model, Training]:
    """The options with what was left open."""
    num_edges = graphs.sizes["interactions"]
    dim = recipes.teacher_dim(num_edges) if model.dim is None else model.dim
    training = filled(training, recipes.training(model.model, num_edges))
    metric = metric_for(training.metric, graphs.sizes["items"])
    return replace(model, dim=dim), replace(training, metric=metric)


def filled(training: Training, recipe: dict[str, Any]) -> Training:
    """Options, those not given from a recipe."""
    missing = {k: v for k, v in recipe.items() if getattr(training, k, 0) is None}
    return replace(training, **missing)


def trainer_options(training: Training) -> dict[str, Any]:
    """What the trainer is given; what is still open is its own choice."""
    given = {field.name: getattr(training, field.name) for field in fields(training)}
    return {name: value for name, value in given.items() if value is not None or name == "patience"}
