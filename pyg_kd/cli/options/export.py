"""The options of the command ``export``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pyg_kd.cli.options import Precision


@dataclass(frozen=True)
class Exported:
    """What is exported, and where to

    Args:
        source: The folder of a bundle or of a run, or hub:OWNER/NAME for one that was pushed.
        out: A folder for Parquet or a bundle, a file for ONNX and faiss, or hub:OWNER/NAME.
        format: The form; by default what the ending of OUT tells.
        overwrite: Replace what is there already.
    """

    source: str = field(metadata={"positional": True})
    out: str = field(metadata={"positional": True})
    format: Literal["auto", "parquet", "onnx", "faiss", "hub", "bundle"] = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class Details:
    """Details of a form

    Args:
        model: Which model of a run: model, teacher, alone or student; its bundle by default.
        dtype: Precision of the tables of a model of a run (float32); a bundle keeps its own.
        by: Whether a request to ONNX names a user or gives a vector.
        exclude_seen: Whether ONNX leaves out what users have seen.
        factory: What faiss builds, such as Flat, IVF1024,Flat or HNSW32.
        ids: Whether faiss returns original ids, which must be integers, or rows.
        revision: The branch, tag or commit on the hub.
        private: Whether a new repository on the hub is private.
        message: The message of the commit on the hub.
    """

    model: str | None = None
    dtype: Precision | None = None
    by: Literal["user", "vector"] = "user"
    exclude_seen: bool = True
    factory: str = "Flat"
    ids: Literal["original", "rows"] = "original"
    revision: str | None = None
    private: bool | None = None
    message: str | None = None
