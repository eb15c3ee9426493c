"""The benchmark files of LightGCN: one shared reader for its three data sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kd.datasets.adjacency_lists import read_lists
from pyg_kd.datasets.graph import edge_keys, edges_digest, edges_of_keys, graph_from_keys
from pyg_kd.datasets.raw import RawFile, obtain
from pyg_kd.typing import INTERACTS

_URL = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data"


class LightGCNBenchmark(InMemoryDataset):
    r"""Base class of the data sets in the format of the `"LightGCN"
    <https://arxiv.org/abs/2002.02126>`_ paper.

    The raw files ``train.txt`` and ``test.txt`` hold one line a user:
    ``user item item ...``. A subclass names its folder and its published counts, and what
    else is known of the published files, which all are checked against it.

    Args:
        root: Root folder. The raw files are looked for in ``root/raw``, in
            ``root`` and in ``$PYG_KD_DATA/<folder>``, are only read there, and are
            downloaded to ``root/raw`` if they are in none of them. Parsing takes
            less than a second, so no processed file is ever written.
        transform: Applied to the graph on every access.
        pre_transform: Applied to the graph once.

    Raises:
        FileNotFoundError: If the raw files are nowhere and cannot be downloaded.
        ValueError: If a file is damaged, or the files do not hold the published number of
            users, items and interactions.
    """

    #: Name of the folder of the data set, here and in the source repository.
    folder: ClassVar[str]
    #: The published numbers of users, items, and training and test interactions together.
    counts: ClassVar[tuple[int, int, int]]
    #: The checksums of the source's files that are known, by file name.
    sha256: ClassVar[Mapping[str, str]] = {}
    #: How many of the interactions are for training, if that is known.
    num_train: ClassVar[int | None] = None
    #: The checksum of the training edges, sorted by user, then item, if that is known.
    train_sha256: ClassVar[str | None] = None

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        super().__init__(None if root is None else str(root), transform, pre_transform)
        files = [self._raw_file(name) for name in self.raw_file_names]
        data = self._read(obtain(type(self).__name__, files, root, self.folder))
        if pre_transform is not None:
            data = pre_transform(data)
        self.data, self.slices = self.collate([data])

    @property
    def raw_file_names(self) -> list[str]:
        """The two raw files."""
        return ["train.txt", "test.txt"]

    def _raw_file(self, name: str) -> RawFile:
        # Without a checksum, a download has to be lists of integers at the least.
        url = f"{_URL}/{self.folder}/{name}"
        return RawFile(name, url, self.sha256.get(name), check=read_lists)

    def _read(self, folder: Path) -> HeteroData:
        train, test = (_read_pairs(folder / name) for name in self.raw_file_names)
        pairs = torch.cat([train, test], dim=1)
        sizes = [int(v) + 1 for v in pairs.amax(dim=1)] if pairs.numel() else [0, 0]
        found = (sizes[0], sizes[1], pairs.size(1))
        if found != self.counts:
            raise self._other_data(
                folder, f"must hold {self.counts} users, items and interactions (got {found})"
            )
        if self.num_train is not None and train.size(1) != self.num_train:
            raise self._other_data(
                folder,
                f"must hold {self.num_train} interactions in train.txt (got {train.size(1)})",
            )
        keys = [edge_keys(*pair, *sizes).unique() for pair in (train, test)]
        data = graph_from_keys(keys[0], sizes[0], sizes[1])
        if self.train_sha256 not in (None, edges_digest(data[INTERACTS].edge_index)):
            raise self._other_data(folder, "must hold the published interactions in train.txt")
        data[INTERACTS].edge_label_index = edges_of_keys(keys[1], sizes[1])
        return data

    def _other_data(self, folder: Path, reason: str) -> ValueError:
        return ValueError(
            f"the raw files of {type(self).__name__} in '{folder}' {reason}: "
            "delete them, or put the published ones there"
        )


def _read_pairs(path: Path) -> Tensor:
    lists = read_lists(path)
    user = torch.from_numpy(lists.head).repeat_interleave(torch.from_numpy(lists.size))
    return torch.stack([user, torch.from_numpy(lists.value)])
