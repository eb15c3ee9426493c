"""The graphs that a command works on, from the options that name the data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch_geometric.data import HeteroData

from pyg_kd import datasets, transforms
from pyg_kd.cli.console import warn
from pyg_kd.cli.options import DATASETS, Data
from pyg_kd.graph import interactions
from pyg_kd.knowledge import graph_fingerprint
from pyg_kd.transforms.split import Split
from pyg_kd.typing import INTERACTS, ITEM, USER

#: The class of each named data set, and the usual name of its folder.
CLASSES = {
    "gowalla": ("Gowalla", "gowalla"),
    "yelp2018": ("Yelp2018", "yelp2018"),
    "amazon-book": ("AmazonBook", "amazon-book"),
    "movielens-100k": ("MovieLens100K", "ml-100k"),
    "citeulike": ("CiteULike", "citeulike"),
}


class Graphs(NamedTuple):
    """The three graphs of a split; without targets there is no second or third."""

    train: HeteroData
    val: HeteroData | None
    test: HeteroData | None
    #: All interactions, those that are held out as well.
    all: HeteroData

    @property
    def whole(self) -> Graphs:
        """All interactions to train on, and nothing held out."""
        return Graphs(self.all, None, None, self.all)

    @property
    def sizes(self) -> dict[str, int]:
        """How much there is of what."""
        whole, train = interactions(self.all), interactions(self.train)
        return {
            "users": train.num_users,
            "items": train.num_items,
            "interactions": whole.edge_index.size(1),
            "training interactions": train.edge_index.size(1),
            "validation interactions": _num_targets(self.val),
            "test interactions": _num_targets(self.test),
        }

    @property
    def described(self) -> str:
        """The sizes, in words."""
        names = ("users", "items", "interactions")
        return ", ".join(f"{self.sizes[name]:,} {name}" for name in names)

    @property
    def fingerprints(self) -> dict[str, str]:
        """What tells this data from other data, and this split from other splits."""
        return {"all": graph_fingerprint(self.all), "train": graph_fingerprint(self.train)}


def read_graphs(data: Data) -> Graphs:
    r"""Read the interactions and split them.

    Raises:
        ValueError: If the options do not fit the data.
        OSError: If a file is not there, or a data set cannot be fetched.
    """
    whole = read_graph(data)
    if data.k_core is not None:
        whole = transforms.KCore(data.k_core)(whole)
    train, val, test = _split(data, whole)
    held_out = [graph if _num_targets(graph) else None for graph in (val, test)]
    for name, share, graph in zip(("val", "test"), (data.val, data.test), held_out, strict=True):
        if share > 0 and graph is None:
            warn(f"users have too few interactions to hold any out (--{name} {share})")
    return Graphs(train, held_out[0], held_out[1], _with_targets(test))


def read_graph(data: Data) -> HeteroData:
    """All interactions as one graph, with ``raw_id`` if they come from a file."""
    name = data.interactions
    if source_file(name) is not None:
        columns = {"user": data.user, "item": data.item}
        columns |= {} if data.time is None else {"time": data.time}
        headless = all(text.isdigit() for text in columns.values())
        wanted: dict[str, Any] = {k: int(v) if headless else v for k, v in columns.items()}
        return datasets.from_interactions(Path(name).expanduser(), **wanted)
    if name == "synthetic":
        return cast(HeteroData, datasets.SyntheticInteractions()[0])
    made, folder = CLASSES[name]
    root = Path("data") / folder if data.root is None else Path(data.root).expanduser()
    graph: HeteroData = getattr(datasets, made)(str(root))[0]
    return graph


def source_file(name: str) -> Path | None:
    r"""The file that is named, or :obj:`None` if it is a data set.

    Raises:
        FileNotFoundError: If it is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name in DATASETS:
        return None
    raise FileNotFoundError(
        f"'interactions' must be a file or one of {', '.join(DATASETS)} (got {name!r})"
    )


def raw_ids(graph: HeteroData, node_type: str) -> npt.NDArray[np.int64] | list[str] | None:
    """The ids that the data had, or :obj:`None` if they are the positions."""
    found = graph[node_type].get("raw_id")
    if isinstance(found, torch.Tensor):
        array: npt.NDArray[np.int64] = found.numpy().astype(np.int64)
        return array
    return None if found is None else [str(value) for value in found]


def _split(data: Data, whole: HeteroData) -> Split:
    if data.split == "temporal":
        return transforms.TemporalSplit(data.val, data.test).forward(whole)
    if data.split == "leave-one-out":
        by_time = "time" in whole[INTERACTS]
        return transforms.LeaveOneOut(data.split_seed, by_time).forward(whole)
    return transforms.UserSplit(data.val, data.test, data.split_seed).forward(whole)


def _with_targets(test: HeteroData) -> HeteroData:
    """The users, the items and all interactions of a test graph, its targets included."""
    whole = HeteroData()
    for node_type in (USER, ITEM):
        whole[node_type].num_nodes = test[node_type].num_nodes
        for name in ("raw_id", "title"):
            if name in test[node_type]:
                whole[node_type][name] = test[node_type][name]
    edges = torch.cat([interactions(test).edge_index, test[INTERACTS].edge_label_index], dim=1)
    num_items = int(whole[ITEM].num_nodes)
    keys = (edges[0] * num_items + edges[1]).unique()
    whole[INTERACTS].edge_index = torch.stack([keys // num_items, keys % num_items])
    return whole


def _num_targets(graph: HeteroData | None) -> int:
    return 0 if graph is None else int(graph[INTERACTS].edge_label_index.size(1))


def options_of(data: Data) -> dict[str, Any]:
    """The options, with files and folders by their whole paths."""
    found, path = asdict(data), source_file(data.interactions)
    if path is not None:
        found["interactions"] = str(path.resolve())
    if data.root is not None:
        found["root"] = str(Path(data.root).expanduser().resolve())
    return found
