"""What one process of a study does: it trains, extracts or tests one run."""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch_geometric.data import HeteroData

from pyg_kd.evaluation import evaluate
from pyg_kd.files import atomic_write, sha256_of
from pyg_kd.knowledge import Listed, extract_knowledge, load_knowledge, save_knowledge
from pyg_kd.models import MF, Recommender
from pyg_kd.models.inference import inference, represent
from pyg_kd.provenance import machine, versions
from pyg_kd.study.building import ALS, is_trained, make_method, make_model, make_trainer
from pyg_kd.study.config import Dataset, Test
from pyg_kd.study.data import Graphs, read_graphs
from pyg_kd.study.latency import request_milliseconds
from pyg_kd.study.records import TEACHER, Record
from pyg_kd.training import AlternatingLeastSquares, TrainingDiverged, train_ensemble, validate
from pyg_kd.training.ensemble import num_bytes
from pyg_kd.training.validation import Validation
from pyg_kd.typing import USER

STATE, KNOWLEDGE = "state.safetensors", "knowledge.safetensors"
TRAIN, EXTRACT, TEST = "train", "extract", "test"


@dataclass(frozen=True)
class Job:
    """One run, or a part of it.

    Args:
        kind: ``"train"``, ``"extract"`` or ``"test"``.
        folder: The folder of the run.
        record: The record, as far as it is known beforehand.
        dataset: The data.
        root: The folder of its files.
        knowledge: The file that knowledge is read from, or extracted to.
        lengths: Items and users that a teacher lists.
        alone: Recipe and folder of the student that teaches itself.
        test: What is measured.
        search: How the setting was chosen.
        threads: Threads of the process.
    """

    kind: str
    folder: Path
    record: Record
    dataset: Dataset
    root: str | None = None
    knowledge: Path | None = None
    lengths: tuple[int, int] = (0, 0)
    alone: tuple[dict[str, Any], Path] | None = None
    test: Test = field(default_factory=Test)
    search: dict[str, Any] | None = None
    threads: int = 1


def work(job: Job) -> None:
    """Do a job."""
    torch.set_num_threads(job.threads)
    with import_module("threadpoolctl").threadpool_limits(job.threads):
        graphs = read_graphs(job.dataset, job.root)
        split, wanted = graphs.fingerprints["split"], job.record.recipe["split"]
        if split != wanted:
            raise ValueError(f"the split has the digest {split:.12}, the run is of {wanted:.12}")
        {TRAIN: train, EXTRACT: extract, TEST: test}[job.kind](job, graphs)


def train(job: Job, graphs: Graphs) -> None:
    """Train a run and write its record, the last of its files."""
    started, cpu = time.monotonic(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            is_teacher = job.record.role == TEACHER
            found = taught_teacher(job, graphs) if is_teacher else taught_student(job, graphs)
        except TrainingDiverged as error:
            found = {"error": str(error)}
    told = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    fingerprints = dict(graphs.fingerprints)
    if job.record.recipe.get("components") and job.knowledge is not None:
        fingerprints["knowledge"] = _sha256(job.knowledge)
    replace(
        job.record,
        versions=versions(),
        hardware=machine(),
        seconds=round(time.monotonic() - started, 3),
        cpu_seconds=round(time.process_time() - cpu, 3),
        peak_bytes=_peak_bytes(),
        fingerprints=fingerprints,
        warnings=[w for w in dict.fromkeys(told) if not w.startswith("Sparse ")],
        **found,
    ).write(job.folder)


def taught_student(job: Job, graphs: Graphs) -> dict[str, Any]:
    """A student, trained; what the record says of it."""
    recipe = job.record.recipe
    graph = graphs.train if job.knowledge is None else knowledge_of(job, graphs)
    return fitted(recipe, graph, graphs, job.folder)


def taught_teacher(job: Job, graphs: Graphs) -> dict[str, Any]:
    """A teacher, trained, fused or read; what the record says of it."""
    recipe = job.record.recipe
    if recipe["class"] is not None:
        return fitted(recipe, graphs.train, graphs, job.folder)
    if recipe["file"] is not None:
        graph = load_knowledge(recipe["file"], graphs.train)
        save_knowledge(graph, job.folder / KNOWLEDGE)
        value = Validation(graphs.train, graphs.val, recipe["metric"]).of_teacher(graph)
        return {"validation": value, "size_bytes": (job.folder / KNOWLEDGE).stat().st_size}
    ensemble = train_ensemble(
        graphs.train,
        graphs.val,
        teachers=recipe["ensemble"],
        metric=recipe["metric"],
        num_items=recipe["num_items"],
        seed=recipe["seed"],
        progress=False,
    )
    save_knowledge(ensemble.graph, job.folder / KNOWLEDGE)
    report = ensemble.report
    size = next((row.bytes for row in report.rows if row.name == "ensemble"), None)
    weights = {f"weight of {n}, {i}": w for i, (n, w) in enumerate(report.weights)}
    return {
        "validation": report.value("ensemble"),
        "size_bytes": size or 0,
        "measures": weights,
    }


def fitted(
    recipe: dict[str, Any], graph: HeteroData, graphs: Graphs, folder: Path
) -> dict[str, Any]:
    """A model of a recipe, trained or computed, and its state written."""
    model, metric = make_model(recipe, graph), recipe["metric"]
    found: dict[str, Any] = {}
    if is_trained(recipe["class"]):
        components = recipe.get("components", ())
        pairs = [(make_method(c, "methods"), c["weight"]) for c in components]
        trainer = make_trainer(recipe["trainer"], "trainer", seed=recipe["seed"], metric=metric)
        history = trainer.fit(model, graph, val_data=graphs.val, distillations=pairs)
        found = {
            "validation": max(history[metric]),
            "epochs": len(history),
            "best_epoch": history.best_epoch,
            "curve": [[r["epoch"], r[metric]] for r in history if metric in r],
            "measures": {"seconds an epoch": sum(history["seconds"]) / len(history)},
        }
    elif recipe["class"] == ALS and isinstance(model, MF):
        options = recipe["options"] if "options" in recipe else recipe["model"]
        solver = AlternatingLeastSquares(**options, seed=recipe["seed"], progress=False)
        solver.fit(model, graph)
    if "validation" not in found:
        found["validation"] = validate(model, graphs.train, graphs.val, metric)[metric]
    if model.trainable:
        save_state(model, folder / STATE)
    return {**found, "size_bytes": size_of(model, graph)}


def extract(job: Job, graphs: Graphs) -> None:
    """Write what a teacher knows."""
    model = model_of(job.record.recipe, graphs, job.folder)
    if isinstance(model, Listed):
        graph = model.graph
    else:
        num_items, num_users = job.lengths
        graph = extract_knowledge(model, graphs.train, num_items=num_items, num_users=num_users)
    assert job.knowledge is not None
    save_knowledge(graph, job.knowledge)


def knowledge_of(job: Job, graphs: Graphs) -> HeteroData:
    """The training graph with what a student learns from."""
    assert job.knowledge is not None
    recipe = job.record.recipe
    graph = load_knowledge(job.knowledge, graphs.train)
    control = recipe["knowledge"]["control"]
    if control is None:
        return graph
    from pyg_kd.knowledge.controls import control_knowledge

    methods = [make_method(c, "methods") for c in recipe["components"]]
    alone = None if job.alone is None else model_of(job.alone[0], graphs, job.alone[1])
    return control_knowledge(control, graph, methods=methods, seed=recipe["seed"], model=alone)


def test(job: Job, graphs: Graphs) -> None:
    """Read the test targets for a run, and write what was found into its record."""
    model = model_of(job.record.recipe, graphs, job.folder)
    found = evaluate(model, graphs.train, graphs.test, job.test.k, job.test.metrics, per_user=True)
    record = job.record
    if job.test.latency and model.inner_product:
        taken = {"latency ms": request_milliseconds(model, graphs.train)}
        record = replace(record, measures={**record.measures, **taken})
    record.tested(job.folder, found, job.search)


def model_of(recipe: dict[str, Any], graphs: Graphs, folder: Path) -> Recommender:
    r"""The model of a run that was trained.

    Raises:
        ValueError: If its state is missing or damaged.
    """
    if recipe.get("class") is None:
        graph = load_knowledge(folder / KNOWLEDGE, graphs.train)
        if "teacher_items" in graph[USER]:
            return Listed(graph)
        return Recommender.from_embeddings(graph, graph[USER].teacher_x, graph["item"].teacher_x)
    model = make_model(recipe, graphs.train)
    if model.trainable:
        load_state(model, folder / STATE)
    return model


def save_state(model: Recommender, path: Path) -> None:
    """Write the state of a model, atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(state, temporary)


def load_state(model: Recommender, path: Path) -> None:
    r"""Read the state of a model.

    Raises:
        ValueError: If the file is missing, damaged, or of another model.
    """
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(
            f"'{path}' is no state of this {type(model).__name__} ({error})"
        ) from error


def size_of(model: Recommender, graph: HeteroData) -> int:
    """Bytes of the vectors that are served, or of the model where it has none."""
    if not model.latent:
        return num_bytes(model)
    with inference(model):
        return sum(x.numel() * x.element_size() for x in represent(model, graph).values())


def list_lengths(graph_items: int, graph_users: int) -> tuple[int, int]:
    """The usual lengths of a teacher's lists of items, and of users."""
    return min(500, graph_items), min(200, graph_users)


def _peak_bytes() -> int:
    """The largest memory of this process; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_of(file, path.stat().st_size)
