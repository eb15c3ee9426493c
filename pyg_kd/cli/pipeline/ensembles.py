"""An ensemble as the teacher of a run: trained once, kept as lists.

NAME.safetensors           the fused lists
NAME-factors.safetensors   the vectors of its best factorisation, for those who look or time
NAME.report.json           the members, their weights, and what each took
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pyg_kd.cli.console import note
from pyg_kd.cli.options import Machine
from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.runs import Run
from pyg_kd.json_files import read_json, write_json
from pyg_kd.knowledge import Listed, load_knowledge, save_knowledge
from pyg_kd.models import MF, Recommender
from pyg_kd.models.state_files import load_state, save_state
from pyg_kd.training.ensemble import Ensemble, Teachers, train_ensemble
from pyg_kd.typing import ITEM, USER


def taught(
    run: Run,
    name: str,
    members: Callable[[], Teachers],
    graphs: Graphs,
    metric: str,
    num_items: int | None,
    machine: Machine,
    weights: Sequence[float] | None = None,
) -> Listed:
    r"""Train an ensemble and keep its lists, or read those that are there.

    Args:
        run: The run.
        name: The name of the ensemble in it.
        members: Makes its members, where they are needed: lists are read from files.
        graphs: The data.
        metric: What weights are chosen by.
        num_items: Length of the lists.
        machine: Seed and device.
        weights: The members' weights, if they were chosen before.
    """
    if not run.state(name).exists():
        ensemble = train_ensemble(
            graphs.train,
            graphs.val if weights is None else None,
            teachers=members(),
            weights=weights,
            metric=metric,
            num_items=num_items,
            seed=machine.seed,
            progress=machine.progress,
        )
        note(f"{name}: {_described(ensemble)}")
        _keep(run, name, ensemble, graphs)
    return read(run, name, graphs)


def read(run: Run, name: str, graphs: Graphs) -> Listed:
    """The ensemble that a run has kept."""
    return Listed(load_knowledge(run.state(name), graphs.train))


def factors(run: Run, name: str, graphs: Graphs) -> Recommender | None:
    """The best factorisation of an ensemble that a run has kept; ``None`` if it has none."""
    report = read_json(report_of(run, name))
    if report["factors"] is None:
        return None
    model = MF(graphs.train, report["factors"]["dim"])
    load_state(model, factors_of(run, name))
    return model


def weights_of(run: Run, name: str) -> list[float]:
    """The weights of the members."""
    return [weight for _, weight in read_json(report_of(run, name))["weights"]]


def size_of(run: Run, name: str) -> int | None:
    """Bytes of the members that have a weight; ``None`` if they aren't known."""
    rows = read_json(report_of(run, name))["rows"]
    found: int | None = next(row["bytes"] for row in rows if row["name"] == "ensemble")
    return found


def report_of(run: Run, name: str) -> Path:
    """The file that tells of an ensemble."""
    return run.path / f"{name}.report.json"


def factors_of(run: Run, name: str) -> Path:
    """The file of the vectors of an ensemble's best factorisation."""
    return run.state(f"{name}-factors")


def _keep(run: Run, name: str, ensemble: Ensemble, graphs: Graphs) -> None:
    """Write an ensemble, its lists last, by which it is known to be complete."""
    found, model = ensemble.report.to_dict(), _factorised(ensemble)
    found["factors"] = None
    if model is not None:
        with torch.no_grad():
            x_dict = model(graphs.train)
        vectors = Recommender.from_embeddings(graphs.train, x_dict[USER], x_dict[ITEM])
        found["factors"] = {"name": type(model).__name__, "dim": vectors.dim}
        save_state(vectors, factors_of(run, name))
    write_json(report_of(run, name), found)
    save_knowledge(ensemble.graph, run.state(name))


def _factorised(ensemble: Ensemble) -> Recommender | None:
    """The best member whose score is an inner product, or the first where none was measured."""
    rows = ensemble.report.rows[: len(ensemble.models)]
    found = [
        (row.value or 0.0, -place, model)
        for place, (row, model) in enumerate(zip(rows, ensemble.models, strict=True))
        if model is not None and model.inner_product
    ]
    return max(found, key=lambda entry: entry[:2])[2] if found else None


def _described(ensemble: Ensemble) -> str:
    members = [f"{weight:g} {name}" for name, weight in ensemble.report.weights if weight]
    return f"{' + '.join(members)} in {ensemble.report.seconds:.0f} s"
