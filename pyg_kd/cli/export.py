"""The command ``export``."""

from __future__ import annotations

from pyg_kd.cli.options.export import Details, Exported


def export(exported: Exported, details: Details) -> None:
    """Write a bundle, or a model of a run, in another form.

    Parquet: users.parquet and items.parquet with ids and vectors. ONNX: look-up, scores, mask and
    top-k, which run without Python. faiss: a file for faiss.read_index. hub: a repository of the
    Hugging Face Hub. bundle: a folder to be served, of any model of a run, or from the hub.
    """
    from pyg_kd.cli.engine.export import run_export

    run_export(exported, details)
