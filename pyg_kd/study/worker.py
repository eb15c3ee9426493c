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
from torch_geometric.data import HeteroData

from pyg_kd.evaluation import evaluate
from pyg_kd.files import sha256_of
from pyg_kd.knowledge import Listed, extract_knowledge, load_knowledge, save_knowledge
from pyg_kd.knowledge.controls import control_knowledge
from pyg_kd.models.state_files import save_state
from pyg_kd.provenance import machine, versions
from pyg_kd.study.building import make_method
from pyg_kd.study.data import Graphs, read_graphs
from pyg_kd.study.fitting import STATE, fitted, model_of
from pyg_kd.study.latency import request_milliseconds
from pyg_kd.study.recipes import sources_in
from pyg_kd.study.records import TEACHER, Record
from pyg_kd.study.schema import Dataset, Test
from pyg_kd.study.teaching import taught_teacher
from pyg_kd.training import TrainingDiverged

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
        check_sources(job.record.recipe)
        {TRAIN: train, EXTRACT: extract, TEST: test}[job.kind](job, graphs)


def check_sources(recipe: dict[str, Any]) -> None:
    """Raise unless the own classes of a recipe are what they were when it was made."""
    found, wanted = sources_in(recipe), recipe.get("sources", {})
    if changed := [name for name in found if found[name] != wanted.get(name)]:
        raise ValueError(f"the source of {changed[0]!r} changed after the study was begun")


def train(job: Job, graphs: Graphs) -> None:
    """Train a run and write its record, the last of its files."""
    started, cpu = time.monotonic(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if job.record.role == TEACHER:
                found = taught_teacher(job.record.recipe, graphs, job.folder)
            else:
                found = taught_student(job, graphs)
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
    graph = graphs.train if job.knowledge is None else knowledge_of(job, graphs)
    model, found = fitted(job.record.recipe, graph, graphs)
    if model.trainable:
        save_state(model, job.folder / STATE)
    return found


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
