"""The models of a run, as ``latency`` times them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyg_kd.cli.console import note
from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.pipeline.indexes import measured_index
from pyg_kd.cli.pipeline.saved import SavedRun
from pyg_kd.edge_types import interaction_type
from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.latency import propagation_seconds

Found = tuple[
    dict[str, TopKIndex], TopKIndex | None, tuple[Any, Any] | None, dict[str, float] | None
]


def timed_models(path: Path, propagation: bool) -> Found:
    r"""The student of a run, its teacher, its test interactions, and the teacher's propagation.

    Args:
        path: The folder of the run.
        propagation: Whether to time the propagation.

    Returns:
        The student's index by its name; the teacher's, if its score is an inner product; the
        test interactions as a pattern; and the median seconds of the propagation.
    """
    saved = SavedRun.open(path)
    graphs = saved.graphs()
    name = saved.names[-1]
    student = saved.model(name, graphs)
    indexes = {name: measured_index(student, graphs, held_out=False)}
    teacher = saved.timed_teacher(graphs)
    if saved.of_ensemble:
        note("the teacher is an ensemble: its best factorisation is timed and measured")
    if teacher is None:
        return indexes, None, held_out_items(graphs), None
    index = measured_index(teacher, graphs, held_out=False) if teacher.inner_product else None
    seconds = propagation_seconds(teacher, graphs.train)._asdict() if propagation else None
    return indexes, index, held_out_items(graphs), seconds


def held_out_items(graphs: Graphs) -> tuple[Any, Any] | None:
    """The test interactions by user, ``(ptr, col)``."""
    if graphs.test is None:
        return None
    user, item = graphs.test[interaction_type(graphs.test)].edge_label_index
    order = (user * graphs.sizes["items"] + item).argsort()
    counts = user.bincount(minlength=graphs.sizes["users"])
    ptr = counts.new_zeros(len(counts) + 1)
    ptr[1:] = counts.cumsum(0)
    return ptr.numpy(), item[order].numpy()
