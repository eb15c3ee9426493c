"""Indexes of the models of a run."""

from __future__ import annotations

from pathlib import Path

from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.pipeline.saved import SavedRun
from pyg_kd.graph import interactions
from pyg_kd.models import Recommender
from pyg_kd.retrieval import TopKIndex


def index_of_model(path: Path, name: str, dtype: str) -> TopKIndex:
    r"""The index of a model, with all that users have seen.

    Raises:
        ValueError: If there is no such model, or its score is not an inner product.
    """
    saved = SavedRun.open(path)
    if name not in saved.names:
        raise ValueError(f"'model' must be one of {', '.join(saved.names)} (got {name!r})")
    graphs = saved.graphs()
    return measured_index(saved.vectors(name, graphs), graphs, dtype)


def measured_index(
    model: Recommender, graphs: Graphs, dtype: str = "float32", *, held_out: bool = True
) -> TopKIndex:
    r"""The index of a model with the vectors that were measured.

    Args:
        model: The model.
        graphs: The data.
        dtype: Precision of the tables.
        held_out: Whether users have seen what was held out for the test.
    """
    graph = graphs.all if held_out or graphs.test is None else graphs.test
    seen = interactions(graph).by_user()
    pattern = seen.ptr.numpy(), seen.col.numpy()
    return TopKIndex.from_model(model, graphs.train, dtype=dtype, seen=pattern)
