"""The bundle of a run: the vectors that were measured, and all that users have seen."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from pyg_kd.cli.pipeline.data import Graphs, raw_ids
from pyg_kd.files import atomic_write
from pyg_kd.models import Recommender
from pyg_kd.retrieval import TopKIndex, load_student, save_student
from pyg_kd.typing import ITEM


def save_bundle(
    model: Recommender,
    path: Path,
    graphs: Graphs,
    *,
    dtype: str,
    metrics: Mapping[str, float],
    teacher: Recommender | None = None,
    fold_in: bool = True,
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
        fold_in: Fit how vectors of new users are computed.
        seed: Which users that is fitted on.
    """
    save_student(
        model,
        path,
        graph=graphs.train,
        dtype=dtype,
        metrics=metrics,
        teacher=teacher,
        fold_in="auto" if fold_in else None,
        seen=graphs.all,
        validation=None if dtype == "float32" else graphs.val,
        seed=seed,
    )
    return load_student(path, mmap=False)


def write_titles(graphs: Graphs, path: Path) -> None:
    """Write the titles of the items, if the data has them: what ``serve --titles`` takes."""
    titles = graphs.train[ITEM].get("title")
    if titles is None:
        return
    raw = raw_ids(graphs.train, ITEM)
    ids = range(len(titles)) if raw is None else list(raw)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "title"])
        writer.writerows(zip(ids, titles, strict=True))
