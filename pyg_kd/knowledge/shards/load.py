"""Reading shards of knowledge, all of them or those of some users."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.edge_types import interaction_type
from pyg_kd.graph import node_ids
from pyg_kd.knowledge.requirements import graph_fingerprint, name_source
from pyg_kd.knowledge.shards.job import KIND
from pyg_kd.knowledge.values import PLACES, ROWS, check_value
from pyg_kd.shards import Manifest, Part, ShardError, open_shards
from pyg_kd.shards.parquet import padded, read_columns
from pyg_kd.shards.parquet import vectors as vectors_of
from pyg_kd.typing import ITEM, USER


def load_shards(
    folder: str | os.PathLike[str],
    data: HeteroData,
    *,
    users: Tensor | Sequence[int] | None = None,
    scores: bool = False,
    vectors: bool = True,
) -> HeteroData:
    r"""Attach knowledge from the files of :func:`extract_shards` to the graph it is of.

    The result is that of :func:`~pyg_kd.knowledge.extract_knowledge` with the same options. Every
    file that is read is checked against its digest, all others by name and length, and all ids
    and numbers as those of any knowledge. For an example see :func:`extract_shards`.

    Args:
        folder: A complete folder.
        data: The training graph; it is copied shallowly.
        users: Read only the lists of these users, ``[n]`` integers, from the files that have them,
            such as the share of one of several workers. The lists are then ``[n, K]``, as those
            of ``extract_knowledge(users=...)``, and there is no ``teacher_x``.
        scores: Attach the scores of the lists as ``teacher_scores``.
        vectors: Attach ``teacher_x``, where it was written for all users.

    Returns:
        The graph with the knowledge; ``data`` is left unchanged. Knowledge of another teacher is
        dropped from it.

    Raises:
        FileNotFoundError: If there is no such folder.
        ImportError: If ``pyarrow`` is not installed.
        TypeError: If ``folder`` is not a path, ``data`` not a graph, or a user not an integer.
        ValueError: If a file is missing or a bit of it wrong, the shards are not complete, are
            of another graph, or do not have one of ``users``.
    """
    wanted = None
    if users is not None:
        wanted = node_ids(data, USER, "users", users).unique().cpu().numpy()
    found = open_shards(folder, KIND)
    fingerprint, told = graph_fingerprint(data), found.request["graph_fingerprint"]
    if told != fingerprint:
        raise ShardError(
            f"'{found.folder}' holds knowledge of another graph (fingerprint {told:.12}, 'data' "
            f"has {fingerprint:.12})"
        )
    shards = Shards(found)
    vectors = vectors and users is None and shards.of_all and found.request["vectors"]
    values = shards.read_users(wanted, scores=scores, vectors=vectors)
    values |= shards.read_items(vectors=vectors)
    graph = copy.copy(data)
    name_source(graph, fingerprint, found.request["teacher_fingerprint"])
    graph.teacher_inner_product = found.request["teacher_inner_product"]
    if (USER, "teacher_items") in values:  # what other lists of this teacher carried
        for name in (*PLACES, ROWS):
            graph[USER].pop(name, None)
    device = data[interaction_type(data)].edge_index.device
    for (node_type, name), value in values.items():
        graph[node_type][name] = torch.as_tensor(value, device=device)
    for node_type, name in values:
        check_value(graph, node_type, name, graph[node_type][name], f"'{found.folder}': {name!r}")
    return graph


Array = npt.NDArray[Any]
Values = dict[tuple[str, str], Array]

#: What a column becomes on a graph.
OF_USERS = {"items": "teacher_items", "scores": "teacher_scores", "vector": "teacher_x"}
OF_ITEMS = {"users": "teacher_users", "vector": "teacher_x"}


class Shards:
    """The tables in a folder."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.request = manifest, manifest.request
        self.sizes: dict[str, int] = self.request["sizes"]

    @property
    def of_all(self) -> bool:
        """Whether all users are in there."""
        return self.request["users"] is None

    def read_users(self, users: Array | None, *, scores: bool, vectors: bool) -> Values:
        """Lists of all users that are there, or of some."""
        width = self.request["num_items"]
        names = ["items"] * bool(width) + ["scores"] * bool(width and scores)
        names += ["vector"] * vectors
        if users is None and not self.of_all:
            users = self._users_there()
        table = Table(self.sizes[USER] if users is None else len(users), width)
        there = np.zeros(table.size, bool)
        for part in self._needed(users) if names else ():
            node, columns = self._columns(part, names)
            place, kept = _places(node, users)
            there[place] = True
            table.put(columns, place, kept)
        if names and users is not None and not there.all():
            raise ShardError(
                f"'users' must have lists in '{self.manifest.folder}' (got "
                f"{int(users[np.argmin(there)])}, and {np.count_nonzero(~there)} without in all)"
            )
        values = table.values | table.empty(names)
        found = {(USER, OF_USERS[name]): value for name, value in values.items()}
        if users is not None and width:
            found[USER, ROWS] = users
        return found

    def read_items(self, *, vectors: bool) -> Values:
        """Lists and representations of all items."""
        width = self.request["num_users"]
        names = ["users"] * bool(width) + ["vector"] * vectors
        table = Table(self.sizes[ITEM], width)
        for part in self.manifest.parts("items") if names else ():
            node, columns = self._columns(part, names)
            table.put(columns, node, slice(None))
        return {(ITEM, OF_ITEMS[name]): value for name, value in table.values.items()}

    def _users_there(self) -> Array:
        """The users that are there, where these are not all."""
        parts = self.manifest.parts("users")
        return np.concatenate([np.empty(0, np.int64), *(self._columns(p, ())[0] for p in parts)])

    def _needed(self, users: Array | None) -> Iterator[Part]:
        """The parts that have some users."""
        for part in self.manifest.parts("users"):
            first, last = (0, 1) if users is None else np.searchsorted(users, part[1:])
            if not self.of_all or first < last:
                yield part

    def _columns(self, part: Part, names: Sequence[str]) -> tuple[Array, dict[str, Any]]:
        """Nodes of a part, int64, and columns."""
        columns = read_columns(self.manifest.read(part), ["node", *names])
        node = columns.pop("node").to_numpy().astype(np.int64)
        whole = self.of_all or part.kind == "items"
        right = len(node) == len(part) and not (
            (node != np.arange(part.start, part.stop)).any()
            if whole
            else (np.diff(node) <= 0).any()
        )
        if not right:
            raise ShardError(f"'{self.manifest.folder / part.name}' does not have the rows it says")
        return node, columns


class Table:
    """Rows of several parts."""

    def __init__(self, size: int, width: int) -> None:
        self.size, self.width = size, width
        self.values: dict[str, Array] = {}

    def put(self, columns: dict[str, Any], place: Array, kept: Any) -> None:
        """Some rows of the columns of a part."""
        for name, column in columns.items():
            if name == "vector":
                rows = vectors_of(column)
            else:
                rows = padded(column, self.width, 0.0 if name == "scores" else -1)
            if name not in self.values:
                self.values[name] = np.empty((self.size, rows.shape[1]), rows.dtype)
            self.values[name][place] = rows[kept]

    def empty(self, names: Sequence[str]) -> dict[str, Array]:
        """Lists of nobody, where no part was read."""
        types = {"items": np.int32, "scores": np.float32}
        left = {name: kind for name, kind in types.items() if name in names and not self.values}
        return {name: np.empty((self.size, self.width), kind) for name, kind in left.items()}


def _places(node: Array, users: Array | None) -> tuple[Array, Any]:
    """Where rows of a part go, and which of them."""
    if users is None:
        return node, slice(None)
    place = np.searchsorted(users, node)
    known = place < len(users)
    known[known] = users[place[known]] == node[known]
    return place[known], known
