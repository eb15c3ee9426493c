"""What ``train`` does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyg_kd.cli.console import note, show_json
from pyg_kd.cli.options import Bundle, Data, Machine, Metrics, Output, flat
from pyg_kd.cli.options.train import Model, Training
from pyg_kd.cli.pipeline import recipes
from pyg_kd.cli.pipeline.bundles import save_bundle, write_titles
from pyg_kd.cli.pipeline.data import Graphs, options_of, read_graphs, source_file
from pyg_kd.cli.pipeline.fitting import (
    best_epochs,
    check_wanted,
    fit,
    measure,
    metric_for,
    trainer_options,
    use_threads,
)
from pyg_kd.cli.pipeline.models import make_model
from pyg_kd.cli.runs import Run, begin
from pyg_kd.models import Recommender
from pyg_kd.training.history import History


def run_training(
    data: Data,
    model: Model,
    training: Training,
    metrics: Metrics,
    machine: Machine,
    bundle: Bundle,
    output: Output,
) -> None:
    """Train, test and write the run."""
    check_wanted(metrics, training.metric)
    source = source_file(data.interactions)
    data = Data(**options_of(data))
    given = flat(data, model, training, metrics, machine, bundle)
    machine = use_threads(machine)
    inputs = [] if source is None else [source]
    with begin(output.out, "train", given, inputs, output.overwrite) as run:
        graphs = read_graphs(data)
        note(graphs.described)
        run.update(data=graphs.sizes, fingerprints=graphs.fingerprints)
        model, training = resolved(model, training, graphs)
        run.write_config(flat(data, model, training, metrics, machine, bundle))
        made, history = trained(run, "model", model, training, graphs, machine)
        found = measure(made, graphs, metrics, training.metric, machine.progress)
        if bundle.bundle and made.inner_product:
            if bundle.refit:
                graphs, epochs = graphs.whole, best_epochs(history)
                again = replace(training, epochs=epochs)
                made, _ = trained(run, "model-again", model, again, graphs, machine)
            noted = found["test"] or found["validation"]
            save_bundle(made, run.path / "bundle", graphs, dtype=bundle.dtype, metrics=noted)
            write_titles(graphs, run.path / "titles.csv")
        elif bundle.bundle:
            note(f"no bundle: scores of {model.model} are not inner products, so it can only teach")
        result = {key: {"model": value} for key, value in found.items()}
        run.write_metrics(result)
    show_json(result)


def trained(
    run: Run, name: str, model: Model, training: Training, graphs: Graphs, machine: Machine
) -> tuple[Recommender, History]:
    """A model made and trained, and its history."""
    made = make_model(model.model, graphs.train, model.dim, model.model_options, machine.seed)
    options = trainer_options(training)
    return made, fit(run, name, made, graphs.train, graphs.val, options, machine)


def resolved(model: Model, training: Training, graphs: Graphs) -> tuple[Model, Training]:
    """The options with what was left open."""
    num_edges = graphs.sizes["interactions"]
    dim = recipes.teacher_dim(num_edges) if model.dim is None else model.dim
    given = {name: getattr(training, name) for name in ("loss", "batch_by")}
    options, recipe = recipes.teaching(
        model.model, graphs.train, graphs.sizes, model.model_options, given
    )
    metric = metric_for(training.metric, graphs.sizes["items"])
    missing = {k: v for k, v in recipe.items() if getattr(training, k) is None}
    changed: dict[str, Any] = {**missing, "metric": metric}
    return replace(model, dim=dim, model_options=options), replace(training, **changed)
