"""What a manifest tells of where tables come from."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from pyg_kd.models import Recommender

#: Fields of the manifest that an index carries in its ``info``, and what they are without it.
USUAL: dict[str, Any] = {
    "name": "index",
    "model": None,
    "graph": None,
    "teacher": None,
    "metrics": {},
    "precision": None,
}

#: A longer ``repr`` of a model is cut.
LONGEST_REPR = 10_000


def told_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a manifest that an index carries in its ``info``, and versions of now."""
    versions = {
        "python": platform.python_version(),
        "pyg_kd": str(import_module("pyg_kd").__version__),
        "numpy": np.__version__,
    }
    if "torch" in info.get("versions", {}):
        versions["torch"] = info["versions"]["torch"]
    told = {name: plain(info.get(name, usual)) for name, usual in USUAL.items()}
    return {**told, "versions": versions}


def origin_of(model: Recommender, graph: HeteroData, teacher: object) -> dict[str, Any]:
    """What the manifest tells of the student, its graph and its teacher."""
    import torch

    from pyg_kd.knowledge.requirements import (
        graph_fingerprint,
        model_fingerprint,
        source_fingerprint,
    )

    if isinstance(teacher, torch.nn.Module):
        source = source_fingerprint(teacher, graph)
        told: Any = {"fingerprint": source, "class": type(teacher).__name__}
    elif isinstance(teacher, Mapping):
        told = dict(teacher)
    elif teacher is None:
        told = (
            {"fingerprint": graph.teacher_fingerprint} if "teacher_fingerprint" in graph else None
        )
    else:
        told = {"fingerprint": str(teacher)}
    return {
        "model": {
            "class": type(model).__name__,
            "repr": repr(model)[:LONGEST_REPR],
            "fingerprint": model_fingerprint(model),
        },
        "graph": {"fingerprint": graph_fingerprint(graph)},
        "teacher": told,
        "versions": {"torch": str(torch.__version__)},
    }


def plain(value: Any) -> Any:
    """The same with Python's own numbers, lists and dictionaries, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(name): plain(held) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(held) for held in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else value
