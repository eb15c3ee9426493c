"""Knowledge on disk: one safetensors file with a digest, tied to its graph."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.edge_types import interaction_type
from pyg_kd.files import atomic_write
from pyg_kd.knowledge.requirements import (
    KNOWLEDGE,
    OF_SEVERAL,
    graph_fingerprint,
    hash_tensor,
    name_source,
)
from pyg_kd.knowledge.values import check_value

#: Version 1 has no digest.
FORMATS = ("pyg_kd.knowledge.1", "pyg_kd.knowledge.2")

#: What the header of a file may say.
FIELDS = {
    "format",
    "sha256",
    "graph_fingerprint",
    "teacher_fingerprint",
    "teacher_inner_product",
    "trajectory_fingerprints",
}

#: Where knowledge may be, and how its tensors are called in a file.
ENTRIES = {
    f"{node_type}.{name}": (node_type, name)
    for name, (node_types, _) in KNOWLEDGE.items()
    for node_type in node_types
}


def save_knowledge(graph: HeteroData, path: str | os.PathLike[str]) -> None:
    r"""Write the knowledge a graph carries to a file, with a SHA-256 over all of it.

    The file is replaced as a whole (:func:`pyg_kd.files.atomic_write`).

    Args:
        graph: A graph that :func:`extract_knowledge` or :func:`attach_trajectories` returned.
        path: The file, by convention ``*.safetensors``.

    Raises:
        ValueError: If the graph carries no knowledge, or some that :func:`load_knowledge` would
            refuse to read.
    """
    tensors = {
        key: graph[node_type][name].cpu().contiguous()
        for key, (node_type, name) in ENTRIES.items()
        if name in graph[node_type]
    }
    if not tensors:
        raise ValueError("'graph' carries no knowledge: call extract_knowledge(teacher, data)")
    for node_type, name in map(ENTRIES.__getitem__, tensors):
        check_value(graph, node_type, name, graph[node_type][name])
    if "graph_fingerprint" not in graph:
        raise ValueError(
            "'graph' has no 'graph_fingerprint': call extract_knowledge(teacher, data)"
        )
    metadata = {"format": FORMATS[-1], "graph_fingerprint": str(graph.graph_fingerprint)}
    for field in ("teacher_fingerprint", "teacher_inner_product"):
        if field in graph:
            metadata[field] = str(graph[field])
    if "trajectory_fingerprints" in graph:
        metadata["trajectory_fingerprints"] = json.dumps(graph.trajectory_fingerprints)
    metadata["sha256"] = _digest(tensors, metadata)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_knowledge(path: str | os.PathLike[str], data: HeteroData) -> HeteroData:
    r"""Attach knowledge from a file to the graph it was extracted from.

    All of the file is checked before anything is attached: its digest, the names, dtypes and
    shapes of its tensors, and every id. A file of an earlier version, which has no digest, is
    read with a warning: save it again.

    Args:
        path: A file that :func:`save_knowledge` wrote.
        data: The training graph; it is copied shallowly. Knowledge of another teacher that it
            carries already does not stay.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If ``path`` is not a path, or ``data`` not a graph.
        ValueError: If the file is damaged, not a knowledge file, or holds
            knowledge of another graph.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"'path' must be a path (got {type(path).__name__})")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no knowledge file at {str(path)!r}")
    label, found = repr(str(path)), graph_fingerprint(data)
    tensors, metadata = _read(path, label)
    if metadata["graph_fingerprint"] != found:
        raise ValueError(
            f"{label} holds knowledge of another graph (fingerprint "
            f"{metadata['graph_fingerprint']:.12}, that of 'data' is {found:.12})"
        )
    for key, value in tensors.items():
        check_value(data, *ENTRIES[key], value, f"{label}: {key!r}")
    if metadata["format"] == FORMATS[0]:
        warnings.warn(
            f"{label} is of an earlier version, without a digest: ids and shapes are valid, but "
            "changed values would go unnoticed. Save it again by save_knowledge",
            stacklevel=2,
        )
    graph = copy.copy(data)
    name_source(graph, found, metadata.get("teacher_fingerprint"))
    device = data[interaction_type(data)].edge_index.device
    for key, value in tensors.items():
        node_type, name = ENTRIES[key]
        graph[node_type][name] = value.to(device)
    if "teacher_inner_product" in metadata:
        graph.teacher_inner_product = metadata["teacher_inner_product"] == "True"
    if "trajectory_fingerprints" in metadata:
        graph.trajectory_fingerprints = _teachers(metadata)
    return graph


def _read(path: str | os.PathLike[str], label: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header of a file, neither damaged nor foreign."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            version = metadata.get("format")
            if version not in FORMATS:
                raise ValueError(f"{label} is not a pyg_kd knowledge file")
            # Copies: the tensors handed out are windows into the file, which may change or shrink.
            tensors = {key: file.get_tensor(key).clone() for key in sorted(file.keys())}
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(f"{label} is truncated or not a safetensors file ({error})") from error
    digest = metadata.get("sha256")
    if (version != FORMATS[0] or digest) and digest != _digest(tensors, metadata):
        raise ValueError(f"{label} is damaged: its content does not match its digest")
    _check_header(tensors, metadata, label)
    return tensors, metadata


def _check_header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], label: str) -> None:
    """Refuse what no file of this package has."""
    foreign = sorted(tensors.keys() - ENTRIES) + sorted(metadata.keys() - FIELDS)
    if foreign:
        raise ValueError(f"{label} is not a pyg_kd knowledge file: it holds {foreign[0]!r}")
    if "graph_fingerprint" not in metadata or not tensors:
        missing = "graph_fingerprint" if tensors else "tensors"
        raise ValueError(f"{label} is damaged: it has no {missing!r}")
    told = metadata.get("teacher_inner_product", "True")
    if told not in ("True", "False"):
        raise ValueError(f"{label} is damaged: 'teacher_inner_product' is {told!r}")
    teachers = len(_teachers(metadata))
    for name in OF_SEVERAL:
        value = tensors.get(f"user.{name}")
        if value is not None and value.shape[1:2] != (teachers,):
            raise ValueError(
                f"{label} is damaged: it names {teachers} teachers, and 'user.{name}' has shape "
                f"{list(value.shape)}"
            )


def _teachers(metadata: Mapping[str, str]) -> list[str]:
    """The fingerprints of several teachers."""
    told = metadata.get("trajectory_fingerprints", "")
    if metadata["format"] == FORMATS[0]:
        return told.split()
    teachers = json.loads(told or "[]")
    return [str(teacher) for teacher in teachers]


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of everything in a file but the digest itself."""
    told = {key: value for key, value in metadata.items() if key != "sha256"}
    shapes = {key: [str(x.dtype), *x.shape] for key, x in tensors.items()}
    digest = hashlib.sha256(json.dumps([told, shapes], sort_keys=True).encode())
    for key in sorted(tensors):
        hash_tensor(digest, tensors[key])
    return digest.hexdigest()
