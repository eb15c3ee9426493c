"""Knowledge on disk: a safetensors file with a digest, tied to its graph."""

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
    check_places,
    graph_fingerprint,
    hash_tensor,
    name_source,
)
from pyg_kd.knowledge.values import PLACES, ROWS, check_value
from pyg_kd.typing import USER

#: Version 1 has no digest.
FORMATS = ("pyg_kd.knowledge.1", "pyg_kd.knowledge.2")

#: Allowed fields in the header of a file.
FIELDS = {
    "format",
    "sha256",
    "graph_fingerprint",
    "teacher_fingerprint",
    "teacher_inner_product",
    "trajectory_fingerprints",
}

#: Names of tensors in a file, and where each belongs on a graph.
ENTRIES = {
    f"{node_type}.{name}": (node_type, name)
    for name, (node_types, _) in KNOWLEDGE.items()
    for node_type in node_types
} | {f"{USER}.{name}": (USER, name) for name in (*PLACES, ROWS)}


def save_knowledge(graph: HeteroData, path: str | os.PathLike[str]) -> None:
    r"""Write the knowledge on a graph to a file, protected by a SHA-256 digest.

    The file is replaced atomically (:func:`pyg_kd.files.atomic_write`).

    Args:
        graph: A graph that :func:`extract_knowledge` or :func:`attach_trajectories` returned.
        path: The file, by convention ``*.safetensors``.

    Raises:
        ValueError: If the graph carries no knowledge, or knowledge that :func:`load_knowledge`
            would refuse.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.knowledge import extract_knowledge
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> with TemporaryDirectory() as folder:
        ...     path = f"{folder}/teacher.safetensors"
        ...     save_knowledge(extract_knowledge(MF(data, dim=4), data), path)
        ...     load_knowledge(path, data)["item"].teacher_x.shape
        torch.Size([50, 4])
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
    check_places(graph[USER], graph)
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
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Put the header of a safetensors file in order, which its writer leaves to chance.

    The header is 8 bytes with its length, then JSON. Sorting changes no length.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(size))


def load_knowledge(path: str | os.PathLike[str], data: HeteroData) -> HeteroData:
    r"""Attach knowledge from a file to the graph it was extracted from.

    The whole file is checked before anything is attached: its digest, the names, dtypes and
    shapes of its tensors, and every id. A file of format version 1, which has no digest, is read
    with a warning: save it again. For an example see :func:`save_knowledge`.

    Args:
        path: A file that :func:`save_knowledge` wrote.
        data: The training graph; it is copied shallowly. If it already carries knowledge of
            another teacher, that is dropped.

    Returns:
        The graph with the knowledge; ``data`` is left unchanged.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If ``path`` is not a path, or ``data`` is not a graph.
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
            f"{metadata['graph_fingerprint']:.12}, 'data' has {found:.12})"
        )
    graph = copy.copy(data)
    name_source(graph, found, metadata.get("teacher_fingerprint"))
    rows = tensors.get(f"{USER}.{ROWS}")
    if f"{USER}.teacher_items" in tensors:
        graph[USER].pop(ROWS, None)
    if rows is not None:
        graph[USER][ROWS] = rows
    for key, value in tensors.items():
        check_value(graph, *ENTRIES[key], value, f"{label}: {key!r}")
    of_users = {ENTRIES[key][1]: value for key, value in tensors.items() if ENTRIES[key][0] == USER}
    check_places(of_users, data, label)
    if metadata["format"] == FORMATS[0]:
        warnings.warn(
            f"{label} has an older format without a digest: ids and shapes are valid, but changed "
            "values would go unnoticed. Save it again with save_knowledge",
            stacklevel=2,
        )
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
    """The tensors and the header of a file, after checking that it is intact."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            version = metadata.get("format")
            if version not in FORMATS:
                raise ValueError(f"{label} is not a pyg_kd knowledge file")
            # Cloned: the tensors are memory-mapped, and the file may change or shrink.
            tensors = {key: file.get_tensor(key).clone() for key in sorted(file.keys())}
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(f"{label} is truncated or not a safetensors file ({error})") from error
    digest = metadata.get("sha256")
    if (version != FORMATS[0] or digest) and digest != _digest(tensors, metadata):
        raise ValueError(f"{label} is damaged: its content does not match its digest")
    _check_header(tensors, metadata, label)
    return tensors, metadata


def _check_header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], label: str) -> None:
    """Raise unless names and metadata are those of a file that this package writes."""
    foreign = sorted(tensors.keys() - ENTRIES) + sorted(metadata.keys() - FIELDS)
    if foreign:
        raise ValueError(f"{label} is not a pyg_kd knowledge file: it holds {foreign[0]!r}")
    if "graph_fingerprint" not in metadata or not tensors:
        missing = "graph_fingerprint" if tensors else "tensors"
        raise ValueError(f"{label} is damaged: it has no {missing!r}")
    inner_product = metadata.get("teacher_inner_product", "True")
    if inner_product not in ("True", "False"):
        raise ValueError(f"{label} is damaged: 'teacher_inner_product' is {inner_product!r}")
    teachers = len(_teachers(metadata))
    for name in OF_SEVERAL:
        value = tensors.get(f"user.{name}")
        if value is not None and value.shape[1:2] != (teachers,):
            raise ValueError(
                f"{label} is damaged: it names {teachers} teachers, but 'user.{name}' has shape "
                f"{list(value.shape)}"
            )


def _teachers(metadata: Mapping[str, str]) -> list[str]:
    """The fingerprints of several teachers."""
    text = metadata.get("trajectory_fingerprints", "")
    if metadata["format"] == FORMATS[0]:
        return text.split()
    teachers = json.loads(text or "[]")
    return [str(teacher) for teacher in teachers]


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of everything in a file except the digest itself."""
    header = {key: value for key, value in metadata.items() if key != "sha256"}
    shapes = {key: [str(x.dtype), *x.shape] for key, x in tensors.items()}
    digest = hashlib.sha256(json.dumps([header, shapes], sort_keys=True).encode())
    for key in sorted(tensors):
        hash_tensor(digest, tensors[key])
    return digest.hexdigest()
