"""Knowledge on disk: one safetensors file, tied to its graph."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch_geometric.data import HeteroData

from pyg_kd.graph import interaction_type
from pyg_kd.knowledge.requirements import KNOWLEDGE, graph_fingerprint, name_source

FORMAT = "pyg_kd.knowledge.1"


def save_knowledge(graph: HeteroData, path: str | os.PathLike[str]) -> None:
    r"""Write the knowledge a graph carries to a file.

    The file appears under its name only once it is complete.

    Args:
        graph: A graph that :func:`extract_knowledge` or :func:`attach_trajectories` returned.
        path: The file, by convention ``*.safetensors``.

    Raises:
        ValueError: If the graph carries no knowledge.
    """
    tensors = {
        f"{node_type}.{name}": graph[node_type][name].cpu().contiguous()
        for name, (node_types, _) in KNOWLEDGE.items()
        for node_type in node_types
        if name in graph[node_type]
    }
    if not tensors:
        raise ValueError("'graph' carries no knowledge: call extract_knowledge(teacher, data)")
    metadata = {"format": FORMAT, "graph_fingerprint": str(graph.graph_fingerprint)}
    if "teacher_fingerprint" in graph:
        metadata["teacher_fingerprint"] = str(graph.teacher_fingerprint)
    if "teacher_inner_product" in graph:
        metadata["teacher_inner_product"] = str(graph.teacher_inner_product)
    if "trajectory_fingerprints" in graph:
        metadata["trajectory_fingerprints"] = " ".join(graph.trajectory_fingerprints)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=metadata)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_knowledge(path: str | os.PathLike[str], data: HeteroData) -> HeteroData:
    r"""Attach knowledge from a file to the graph it was extracted from.

    Args:
        path: A file that :func:`save_knowledge` wrote.
        data: The training graph; it is copied shallowly. Knowledge of another teacher that it
            carries already does not stay.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If ``path`` is none, or ``data`` no graph.
        ValueError: If the file is truncated, no knowledge file, or holds
            knowledge of another graph.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"'path' must be a path (got {type(path).__name__})")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no knowledge file at {str(path)!r}")
    graph = copy.copy(data)
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"{str(path)!r} is no knowledge file of this package")
            expected, found = metadata["graph_fingerprint"], graph_fingerprint(data)
            if expected != found:
                raise ValueError(
                    f"{str(path)!r} holds knowledge of another graph (fingerprint "
                    f"{expected:.12}, that of 'data' is {found:.12})"
                )
            device = data[interaction_type(data)].edge_index.device
            name_source(graph, found, metadata.get("teacher_fingerprint"))
            for name in file.keys():  # noqa: SIM118 - the handle is no mapping
                node_type, attribute = name.split(".")
                graph[node_type][attribute] = file.get_tensor(name).to(device)
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is truncated or no safetensors file ({error})") from error
    if "teacher_inner_product" in metadata:
        graph.teacher_inner_product = metadata["teacher_inner_product"] == "True"
    if "trajectory_fingerprints" in metadata:
        graph.trajectory_fingerprints = metadata["trajectory_fingerprints"].split()
    return graph
