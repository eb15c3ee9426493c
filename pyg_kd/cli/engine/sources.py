"""Indexes by the name of a bundle or of a run."""

from __future__ import annotations

from pathlib import Path

from pyg_kd.cli.runs import RECORD
from pyg_kd.retrieval import TopKIndex, load_student


def index_of(source: str, model: str | None = None, dtype: str | None = None) -> TopKIndex:
    r"""The index of a bundle, or of a model of a run.

    Args:
        source: The folder of a bundle or of a run.
        model: A model of the run; its bundle by default.
        dtype: Precision of the tables of a model, float32 by default.

    Raises:
        ValueError: If there is no such model, its score is not an inner product, or a bundle has
            another precision than what is asked for.
    """
    path = Path(source).expanduser()
    is_run = (path / RECORD).is_file()
    if model is None:
        index = load_student(path / "bundle" if is_run else path)
        if dtype not in (None, index.dtype):
            raise ValueError(
                f"'dtype' is for a model of a run, named by 'model': a bundle keeps its own, which "
                f"is {index.dtype} (got {dtype!r})"
            )
        return index
    if not is_run:
        raise ValueError(f"'model' needs a run, which '{path}' is not (got {model!r})")
    from pyg_kd.cli.pipeline.indexes import index_of_model

    return index_of_model(path, model, dtype or "float32")
