"""The data of a study: read, split, and known by digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch_geometric.data import HeteroData

from pyg_kd import datasets, transforms
from pyg_kd.datasets.graph import edges_digest, interaction_graph
from pyg_kd.edge_types import interaction_type
from pyg_kd.graph import interactions
from pyg_kd.study.binding import nearest
from pyg_kd.study.schema import Dataset

PUBLISHED = "published"


class Graphs(NamedTuple):
    """The training, validation and test graph of a split."""

    train: HeteroData
    val: HeteroData
    test: HeteroData

    @property
    def sizes(self) -> dict[str, int]:
        """How much there is of what."""
        edges = interactions(self.train)
        counts = [edges.edge_index.size(1), *(_targets(g).size(1) for g in self[1:])]
        names = ("training interactions", "validation interactions", "test interactions")
        return {
            "users": edges.num_users,
            "items": edges.num_items,
            "interactions": sum(counts),
            **dict(zip(names, counts, strict=True)),
        }

    @property
    def fingerprints(self) -> dict[str, str]:
        """Digests of each part, and of the split as a whole."""
        parts = [interactions(self.train).edge_index, *(_targets(g) for g in self[1:])]
        found = [edges_digest(part) for part in parts]
        whole = hashlib.sha256(" ".join(found).encode()).hexdigest()
        every = edges_digest(torch.cat(parts, 1))
        names = ("data", "split", "train", "validation", "test")
        return dict(zip(names, (every, whole, *found), strict=True))


def read_graphs(dataset: Dataset, root: str | None = None) -> Graphs:
    r"""Read a data set and split it.

    Args:
        dataset: What it is.
        root: The folder of its files, instead of ``options.root`` or that of the table.

    Raises:
        ValueError: If its parts do not fit, or a part has no targets.
        FileNotFoundError: If a file is not there.
    """
    whole = _read(dataset, root)
    if dataset.split == PUBLISHED:
        graphs = list(whole)
        if len(graphs) != 3:
            raise ValueError(f"'split' is 'published', but the data set has {len(graphs)} graphs")
    else:
        data: Any = _merged(whole[0]) if dataset.merge else whole[0]
        for given in [*dataset.transforms, dataset.split]:
            data = transform_of(given, "transforms")(data)
        graphs = list(data)
    found = Graphs(*graphs)
    for name, graph in (("validation", found.val), ("test", found.test)):
        if not _targets(graph).size(1):
            raise ValueError(f"the split {dataset.split!r} leaves no {name} interactions")
    return found


def dataset_class(name: str, place: str) -> Any:
    r"""A class of :mod:`pyg_kd.datasets`, by its name.

    Raises:
        ValueError: If there is none.
    """
    known = [n for n in datasets.__all__ if isinstance(getattr(datasets, n), type)]
    if name not in known:
        file = name.removeprefix("table:").strip()
        is_file = Path(file).suffix != ""
        hint = f": write 'table: {file}' instead of 'data'" if is_file else nearest(name, known)
        raise ValueError(f"{place}: there is no data set {name!r}{hint}")
    return getattr(datasets, name)


def transform_of(given: str | Mapping[str, Any], place: str) -> Any:
    r"""A transform, by its name or by its name and arguments.

    Raises:
        ValueError: If there is none, or it refuses its arguments.
    """
    if isinstance(given, Mapping) and len(given) != 1:
        raise ValueError(f"{place} must name one transform each (got {given!r})")
    ((name, options),) = given.items() if isinstance(given, Mapping) else ((given, {}),)
    if name not in transforms.__all__:
        raise ValueError(
            f"{place}: there is no transform {name!r}{nearest(str(name), transforms.__all__)}"
        )
    kind = getattr(transforms, name)
    check_names(kind, options or {}, f"{place}.{name}")
    return kind(**(options or {}))


def check_names(kind: Any, options: Mapping[str, Any], place: str, given: int = 0) -> None:
    r"""Raise unless a class takes these arguments.

    Args:
        kind: The class.
        options: The arguments.
        place: Where they stand, for the message.
        given: How many of its first arguments are given otherwise.

    Raises:
        ValueError: If it does not.
    """
    known = list(signature(kind).parameters)[given:]
    for name in options:
        if name not in known:
            raise ValueError(
                f"{place}: {kind.__name__} has no option {name!r}{nearest(name, known)}"
            )


def table_path(dataset: Dataset, root: str | None = None) -> Path:
    """The file of a data set that is a table; a folder that is given holds it under its name."""
    path = Path(str(dataset.table)).expanduser()
    return path if root is None else Path(root).expanduser() / path.name


def _read(dataset: Dataset, root: str | None) -> Any:
    if dataset.table is not None:
        return [datasets.from_interactions(table_path(dataset, root), **dataset.columns)]
    kind = dataset_class(str(dataset.data), "datasets")
    if "root" not in signature(kind).parameters or root is None:
        return kind(**dataset.options)
    return kind(**{**dataset.options, "root": root})


def _merged(data: HeteroData) -> HeteroData:
    """All interactions of a data set that comes split, as one graph."""
    edge_index, num_users, num_items = interactions(data)
    whole = torch.cat([edge_index, _targets(data)], 1)
    return interaction_graph(whole[0], whole[1], num_users, num_items)


def _targets(graph: HeteroData) -> Any:
    store = graph[interaction_type(graph)]
    return store.get("edge_label_index", interactions(graph).edge_index[:, :0])
