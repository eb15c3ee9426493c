"""Articles in the libraries of CiteULike users."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Dataset, HeteroData

from pyg_kd.datasets.adjacency_lists import AdjacencyLists, read_lists
from pyg_kd.datasets.graph import edges_digest, interaction_graph
from pyg_kd.datasets.raw import RawFile, obtain
from pyg_kd.typing import INTERACTS, ITEM, USER

_LISTS = RawFile(
    "users.dat",
    "https://raw.githubusercontent.com/js05212/citeulike-t/master/users.dat",
    "02d5d429b2c0362e0ed79f6ef204666b4092563d21493abf4dfb521e8a7078bf",
)
# The split comes without a stable public address, so it is put in place by hand.
_SPLIT = [RawFile(f"loo/{name}.txt") for name in ("train", "valid", "test")]
#: Its users, items, and pairs in each file.
_SPLIT_COUNTS: tuple[int, ...] = (5_219, 25_181, 115_142, 5_219, 5_219)
#: The checksums of its pairs, sorted by user, then item, in whatever order a file has them.
_SPLIT_SHA256: tuple[str, ...] = (
    "962cb5bc879abc7907ab794234aef59d6fe14dafdffcb1ab856e6778a2c009d8",
    "be40039c71e9f0152d6b6cbfd3a0453a4caacc4cfab2bf580fe0dda1c4c0d40a",
    "f7d0031753e6ae63b99f7a0afcf42d5fb5002b671eb921c0d9434bb7c11d7ad9",
)


class CiteULike(Dataset):
    r"""The citeulike-t libraries, collected for *Collaborative Topic Regression with
    Social Regularization for Tag Recommendation* (IJCAI 2013).

    Users with fewer than ``min_interactions`` articles are dropped, then articles
    that nobody is left to hold. With the default, 5,219 users, 25,181 items and
    125,580 edges remain. ``raw_id`` of either node type, int64, is the line of
    the user and the number of the article in ``users.dat``. Items are numbered
    in the order in which that file first names them, which is also the numbering of
    the leave-one-out split, so both give a node the same id.

    Args:
        root: Root folder. ``users.dat``, or ``loo/train.txt``, ``loo/valid.txt``
            and ``loo/test.txt``, are looked for in ``root/raw``, in ``root`` and in
            ``$PYG_KD_DATA/citeulike`` and are only read there. ``users.dat`` is
            downloaded to ``root/raw`` if it is in none of them.
        min_interactions: The least number of articles of a user that is kept.
        split: :obj:`None` for one graph with all edges, or ``"leave_one_out"`` for the
            three graphs ``[0]`` train, ``[1]`` validation and ``[2]`` test of the
            `"Topology Distillation for Recommender System"
            <https://arxiv.org/abs/2106.08700>`_ paper: messages in ``edge_index``,
            one target a user in ``edge_label_index`` of the latter two.
        transform: Applied to a graph on every access.
        pre_transform: Applied to every graph once.

    Raises:
        FileNotFoundError: If the raw files are nowhere and cannot be downloaded.
        ValueError: If an option is out of range, or a file is not the published one.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        min_interactions: int = 5,
        split: str | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        if min_interactions < 1:
            raise ValueError(f"'min_interactions' must be at least 1 (got {min_interactions})")
        if split not in (None, "leave_one_out"):
            raise ValueError(f"'split' must be None or 'leave_one_out' (got {split!r})")
        if split is not None and min_interactions != 5:
            raise ValueError(
                f"'min_interactions' must be 5 for the leave-one-out split (got {min_interactions})"
            )
        super().__init__(None if root is None else str(root), transform, pre_transform)
        self.split = split
        files = [_LISTS] if split is None else _SPLIT
        folder = obtain(type(self).__name__, files, root, "citeulike")
        if split is None:
            graphs = [_read_libraries(folder / _LISTS.name, min_interactions)]
        else:
            graphs = _read_split(folder)
        self._graphs = graphs if pre_transform is None else [pre_transform(g) for g in graphs]

    @property
    def raw_file_names(self) -> list[str]:
        """The raw files that are read."""
        return [file.name for file in ([_LISTS] if self.split is None else _SPLIT)]

    def len(self) -> int:
        """One graph, or the three of the split."""
        return len(self._graphs)

    def get(self, idx: int) -> HeteroData:
        """A copy of a graph that shares its tensors."""
        return copy.copy(self._graphs[idx])


def _read_libraries(path: Path, min_interactions: int) -> HeteroData:
    lists = read_lists(path)
    wrong = lists.head != lists.size
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"list {at + 1} of '{path}' must hold {lists.head[at]} items (got {lists.size[at]})"
        )
    kept = np.flatnonzero(lists.size >= min_interactions)
    if kept.size == 0:
        raise ValueError(f"no user has 'min_interactions' items (got {min_interactions})")
    user = np.repeat(np.arange(kept.size), lists.size[kept])
    item, raw_item = _number_by_first_use(lists.value[np.isin(lists.row, kept)])
    data = interaction_graph(torch.from_numpy(user), item, kept.size, raw_item.numel())
    data[USER].raw_id = torch.from_numpy(kept)
    data[ITEM].raw_id = raw_item
    return data


def _number_by_first_use(value: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[Tensor, Tensor]:
    """Dense ids in the order of first use, and the value that each stands for."""
    raw, first, dense = np.unique(value, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return torch.from_numpy(rank[dense]), torch.from_numpy(raw[order])


def _read_split(folder: Path) -> list[HeteroData]:
    lists = [read_lists(folder / file.name) for file in _SPLIT]
    for file, part in zip(_SPLIT[1:], lists[1:], strict=True):
        if (part.size != 1).any():
            raise ValueError(f"'{folder / file.name}' must hold one item a user")
    edges = [_pairs(part) for part in lists]
    num_users, num_items = (int(v) + 1 for v in torch.cat(edges, dim=1).amax(dim=1))
    found = (num_users, num_items, *(pair.size(1) for pair in edges))
    if found != _SPLIT_COUNTS:
        raise ValueError(
            f"the files in '{folder / 'loo'}' must hold {_SPLIT_COUNTS} users, items, training, "
            f"validation and test pairs (got {found}): put the published split there"
        )
    for file, pair, digest in zip(_SPLIT, edges, _SPLIT_SHA256, strict=False):
        pairs = interaction_graph(pair[0], pair[1], num_users, num_items)[INTERACTS].edge_index
        if edges_digest(pairs) != digest:
            raise ValueError(
                f"'{folder / file.name}' must hold the pairs of the published split: it is "
                "damaged, or another split"
            )

    def graph(messages: Tensor, targets: Tensor | None) -> HeteroData:
        data = interaction_graph(messages[0], messages[1], num_users, num_items)
        if targets is not None:
            data[INTERACTS].edge_label_index = targets
        return data

    train, val, test = edges
    return [graph(train, None), graph(train, val), graph(torch.cat([train, val], dim=1), test)]


def _pairs(lists: AdjacencyLists) -> Tensor:
    return torch.from_numpy(np.stack([np.repeat(lists.head, lists.size), lists.value]))
