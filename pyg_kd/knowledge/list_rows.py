"""Rows of a table of ranked lists: checked, and turned into padded lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.datasets.columns import numbered
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER

Array = npt.NDArray[Any]

#: Columns of numbers, and what a graph calls what it carries of them.
OPTIONAL = ("rank", "score", "confidence")
CARRIED = {"score": "teacher_scores", "confidence": "teacher_confidence"}

#: An id as a number; digits of other scripts are no other way to write it.
_INTEGER = re.compile("-?[0-9]+")


class ListRows:
    r"""The rows of a table with one row for each place of each list.

    Args:
        columns: Columns ``user`` and ``item`` with original ids, and any of :data:`OPTIONAL`.
        data: The training graph, whose ``raw_id`` are the original ids.

    Raises:
        TypeError: If a column is of an unsupported type.
        ValueError: If columns differ in length or are empty, an id is missing, or a number is
            not finite or a negative confidence.
    """

    def __init__(self, columns: Mapping[str, Any], data: HeteroData) -> None:
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"the columns of 'table' must have the same length (got {sizes})")
        if not sizes[USER]:
            raise ValueError("'table' must hold at least one row (got none)")
        self.edges = interactions(data)
        self.values = {k: _numbers(k, columns[k]) for k in OPTIONAL if k in columns}
        #: Positions of the original ids of each row, and the rows that are kept.
        self.ids, self.number, self.node = {}, {}, {}
        for key, size in ((USER, self.edges.num_users), (ITEM, self.edges.num_items)):
            number, self.ids[key] = numbered(key, columns[key])
            self.number[key] = number.numpy()
            self.node[key] = _nodes(self.ids[key], data[key].get("raw_id"), size)[number.numpy()]

    def keep(self, which: Array) -> None:
        """Leave out all rows but those of a mask."""
        for part in (self.values, self.number, self.node):
            for name, column in part.items():
                part[name] = column[which]

    def known(self, unknown: str) -> Array:
        """Which rows are of users and items of the graph; others are refused if so desired."""
        known = {key: node >= 0 for key, node in self.node.items()}
        for key, flags in known.items():
            if unknown == "raise" and not flags.all():
                raise ValueError(
                    f"'table' must hold {key} ids of the graph (got "
                    f"{self._raw(key, int(np.argmin(flags)))!r}, and {np.count_nonzero(~flags)} "
                    f"rows of unknown {key}s in all): remove them, or read the table with "
                    "unknown='skip'"
                )
        return np.asarray(known[USER] & known[ITEM])

    def refuse_repeated(self) -> None:
        """Raise ``ValueError`` if a user lists an item twice."""
        order = np.argsort(self._pairs, kind="stable")
        again = order[1:][np.diff(self._pairs[order]) == 0]
        if len(again):
            user, item = (self._raw(key, int(again[0])) for key in (USER, ITEM))
            raise ValueError(
                f"'table' must not repeat a pair of a user and an item (got user {user!r} with "
                f"item {item!r} again, and {len(again)} repeated rows in all)"
            )

    def listed(self) -> Array:
        """Which rows are of items that the user has not seen, with a confidence above 0."""
        own = self.edges.by_user()
        seen = (own.row * self.edges.num_items + own.col).cpu().numpy()
        listed = ~np.isin(self._pairs, seen)
        if "confidence" in self.values:
            listed &= self.values["confidence"] > 0
        if not listed.any():
            raise ValueError(
                "'table' must list an item that its user has not seen, with a confidence above 0 "
                f"if it has one (got none in {len(listed)} rows)"
            )
        return np.asarray(listed)

    def ranked(self, num_items: int | None) -> dict[str, Tensor]:
        """Lists ``[U, K]`` and what they carry, by names of a graph."""
        by = self.values.get("rank")
        if by is None:
            by = -self.values.get("score", np.zeros(len(self.node[USER])))
        order = np.lexsort((by, self.node[USER]))
        user = self.node[USER][order]
        length = np.bincount(user, minlength=self.edges.num_users)
        place = np.arange(len(user)) - (np.cumsum(length) - length)[user]
        width = int(length.max()) if num_items is None else min(int(length.max()), num_items)
        at, order = (user[place < width], place[place < width]), order[place < width]
        shape = self.edges.num_users, width
        lists = np.full(shape, -1, np.int32)
        lists[at] = self.node[ITEM][order]
        device = self.edges.edge_index.device
        ranked = {"teacher_items": torch.as_tensor(lists, device=device)}
        for name, attribute in CARRIED.items():
            if name in self.values:
                carried = np.zeros(shape, np.float32)
                carried[at] = self.values[name][order]
                ranked[attribute] = torch.as_tensor(carried, device=device)
        return ranked

    @property
    def _pairs(self) -> Array:
        """A number for each pair of a user and an item."""
        return np.asarray(self.node[USER] * self.edges.num_items + self.node[ITEM])

    def _raw(self, key: str, row: int) -> Any:
        """The original id of a row."""
        found = self.ids[key][int(self.number[key][row])]
        return found.item() if isinstance(found, Tensor) else found


def _numbers(name: str, column: Any) -> Array:
    """A column of numbers that float32 holds, float64."""
    if isinstance(column, Tensor):
        column = column.detach().cpu()
    values = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"column {name!r} must hold numbers (got {values.dtype})")
    values = values.astype(np.float64)
    wrong = ~(np.abs(values) <= np.finfo(np.float32).max)
    if name == "confidence":
        wrong |= values < 0
    if wrong.any():
        wanted = "finite numbers of 0 or more" if name == "confidence" else "finite numbers"
        row = int(np.argmax(wrong))
        raise ValueError(f"column {name!r} must hold {wanted} (got {values[row]} in row {row})")
    return values


def _nodes(ids: Tensor | list[str], raw_id: Any, size: int) -> Array:
    """The nodes of distinct ids, int64, -1 for those that are unknown."""
    known = range(size) if raw_id is None else raw_id
    known = known.tolist() if isinstance(known, Tensor) else known
    node: dict[Any, int] = dict(zip(known, range(size), strict=True))
    given: list[Any] = ids.tolist() if isinstance(ids, Tensor) else ids
    if isinstance(raw_id, list):
        given = [*map(str, given)]
    elif isinstance(ids, list):  # one id that is no number makes strings of a column of a file
        given = [int(text) if _INTEGER.fullmatch(text) else text for text in given]
    return np.array([node.get(value, -1) for value in given], np.int64)
