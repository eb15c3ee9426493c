"""The bundle of a run: the vectors that were measured, and all that users have seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.graph import interactions
from pyg_kd.models import Recommender
from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.bundle import load_student, save_index, save_student


def save_bundle(
    model: Recommender,
    path: Path,
    graphs: Graphs,
    *,
    dtype: str,
    metrics: Mapping[str, float],
    teacher: Recommender | None = None,
    seed: int = 0,
) -> TopKIndex:
    r"""Write the bundle of a model, and return its index.

    Vectors are those of the training graph, as they were measured. What users have seen includes
    what was held out: nobody is served what he has already.

    Args:
        model: The model, whose score is an inner product.
        path: The folder.
        graphs: The data.
        dtype: Precision of the tables.
        metrics: What to note in the manifest.
        teacher: The teacher, if there is one.
        seed: Which users settings for new users are fitted on.
    """
    save_student(
        model,
        path,
        graph=graphs.train,
        dtype=dtype,
        metrics=metrics,
        teacher=teacher,
        validation=None if dtype == "float32" else graphs.val,
        seed=seed,
    )
    measured = load_student(path, mmap=False)
    seen = interactions(graphs.all).by_user()
    index = TopKIndex(
        measured.x_user,
        measured.x_item,
        seen=(seen.ptr.numpy(), seen.col.numpy()),
        user_ids=measured.users,
        item_ids=measured.items,
        fold_in=measured.fold_in,
        info=measured.info,
    )
    save_index(index, path)
    return index
