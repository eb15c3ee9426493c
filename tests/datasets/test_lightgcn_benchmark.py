from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kd.datasets import AmazonBook, Gowalla, LightGCNBenchmark, Yelp2018
from pyg_kd.datasets.graph import edges_digest
from pyg_kd.graph import interactions
from pyg_kd.transforms import KCore, UserSplit
from pyg_kd.typing import INTERACTS, ITEM, USER


class Toy(LightGCNBenchmark):
    folder = "toy"
    counts = (4, 6, 10)


# User 1 has a bare line with a blank behind, user 3 no line for training.
TRAIN = "0 3 1 2\n1 \n2 5 0\n"
TEST = "0 4\n1 0\n2\n3 1 0 2"


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYG_KD_DATA", raising=False)


def _write(folder: Path, train: str = TRAIN, test: str = TEST) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.txt").write_text(train)
    (folder / "test.txt").write_text(test)
    return folder


@pytest.mark.parametrize("place", ["raw", "."])
def test_reads_a_root_without_writing_to_it(tmp_path: Path, place: str) -> None:
    _write(tmp_path / place)
    before = sorted(tmp_path.rglob("*"))
    dataset = Toy(str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
    assert isinstance(dataset, InMemoryDataset)
    assert repr(dataset) == "Toy()"
    assert len(dataset) == 1
    data = dataset[0]
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == (4, 6)
    store = data[INTERACTS]
    assert store.edge_index.tolist() == [[0, 0, 0, 2, 2], [1, 2, 3, 0, 5]]
    assert store.edge_label_index.tolist() == [[0, 1, 3, 3, 3], [4, 0, 0, 1, 2]]
    assert store.edge_index.dtype == torch.long
    assert interactions(data).num_users == 4


def test_reads_the_shared_folder_without_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _write(tmp_path / "toy")
    monkeypatch.setenv("PYG_KD_DATA", str(tmp_path))
    folder.chmod(0o555)
    tmp_path.chmod(0o555)
    try:
        assert Toy()[0][INTERACTS].edge_index.size(1) == 5
        # A root that cannot be created is no obstacle either: nothing is written.
        assert Toy(tmp_path / "root")[0][INTERACTS].edge_index.size(1) == 5
        assert sorted(p.name for p in tmp_path.rglob("*")) == ["test.txt", "toy", "train.txt"]
    finally:
        tmp_path.chmod(0o755)
        folder.chmod(0o755)


def test_transforms(tmp_path: Path) -> None:
    _write(tmp_path)
    train, val, test = Toy(tmp_path, transform=UserSplit(val=0.5))[0]
    assert "edge_label_index" not in train[INTERACTS]
    assert val[INTERACTS].edge_label_index.size(1) == 3
    assert test[INTERACTS].edge_index.size(1) == 5
    assert Toy(tmp_path, pre_transform=KCore(1))[0][USER].num_nodes == 2


def test_items_of_the_graph_can_be_replaced_without_touching_the_data_set(tmp_path: Path) -> None:
    dataset = Toy(_write(tmp_path))
    data = dataset[0]
    data[USER].x = torch.ones(4, 2)
    del data[INTERACTS].edge_label_index
    assert "x" not in dataset[0][USER]
    assert "edge_label_index" in dataset[0][INTERACTS]


@pytest.mark.parametrize(
    ("train", "test", "found"),
    [(TRAIN[:-4], TEST, "4, 5, 8"), (TRAIN, TEST[:-2], "4, 6, 9"), (TRAIN, "4 1\n", "5, 6, 6")],
)
def test_other_counts_than_published_are_refused(
    tmp_path: Path, train: str, test: str, found: str
) -> None:
    _write(tmp_path, train, test)
    with pytest.raises(ValueError, match=rf"must hold \(4, 6, 10\) .* \(got \({found}\)\)"):
        Toy(tmp_path)


def test_downloads_from_the_source_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    _write(source / "toy")
    monkeypatch.setattr("pyg_kd.datasets.lightgcn_benchmark._URL", source.as_uri())
    data = Toy(tmp_path / "root")[0]
    assert data[INTERACTS].edge_index.size(1) == 5
    names = sorted(p.name for p in (tmp_path / "root").rglob("*") if p.is_file())
    assert names == ["test.txt", "train.txt"]


@pytest.mark.parametrize(
    ("cls", "folder"),
    [(Gowalla, "gowalla"), (Yelp2018, "yelp2018"), (AmazonBook, "amazon-book")],
)
def test_missing_files_are_named(cls: type[LightGCNBenchmark], folder: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cls()
    message = str(caught.value)
    assert message.startswith(f"{cls.__name__} needs the raw files 'train.txt', 'test.txt'")
    assert f"$PYG_KD_DATA/{folder}" in message


@pytest.mark.parametrize("cls", [Gowalla, Yelp2018, AmazonBook])
def test_files_of_another_data_set_are_refused(
    cls: type[LightGCNBenchmark], tmp_path: Path
) -> None:
    message = f"{cls.__name__} in .* must hold|test.txt' must have the sha256 .*Delete it"
    with pytest.raises(ValueError, match=message):
        cls(_write(tmp_path))


def test_everything_known_of_the_published_files_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path)
    edges = Toy(tmp_path)[0][INTERACTS].edge_index
    monkeypatch.setattr(Toy, "train_sha256", edges_digest(edges))
    monkeypatch.setattr(Toy, "num_train", 5)
    Toy(_write(tmp_path, train="2 0 5\n1\n0 1 2 3\n"))  # the same edges
    with pytest.raises(ValueError, match=r"must hold the published interactions in train.txt: "):
        Toy(_write(tmp_path, train="0 3 1 2\n1 0\n2 5\n"))
    with pytest.raises(ValueError, match=r"must hold 5 interactions in train.txt \(got 6\)"):
        Toy(_write(tmp_path, train="0 3 1 2\n1 0\n2 5 1\n", test="0 4\n1 0\n3 1 0\n"))
    monkeypatch.setattr(Toy, "sha256", {"test.txt": "0" * 64})
    with pytest.raises(ValueError, match=r"test.txt' must have the sha256 0+ \(got"):
        Toy(_write(tmp_path))


def test_download_of_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "toy", train="<html>Log in to the network</html>")
    monkeypatch.setattr("pyg_kd.datasets.lightgcn_benchmark._URL", tmp_path.as_uri())
    message = r"download of 'train.txt' from .* is not what .*'train.txt' must hold non-negative"
    with pytest.raises(ValueError, match=message):
        Toy(tmp_path / "root")
    assert [path for path in (tmp_path / "root").rglob("*") if path.is_file()] == []


def test_the_result_is_a_hetero_data(tmp_path: Path) -> None:
    assert type(Toy(_write(tmp_path))[0]) is HeteroData
