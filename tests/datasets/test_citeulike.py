from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyg_kd.datasets import CiteULike, citeulike
from pyg_kd.graph import interactions
from pyg_kd.typing import INTERACTS, ITEM, USER

USERS = "1 7\n3 20 30 40\n0\n2 10 30\n3 10 40 50\n"
SPLIT = {"train": "0 0 1\n1 3\n", "valid": "0 2\n1 0\n", "test": "0 3\n1 1\n"}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No files but those of the test, which are taken for the published ones."""
    monkeypatch.delenv("PYG_KD_DATA", raising=False)
    monkeypatch.setattr(citeulike, "_LISTS", replace(citeulike._LISTS, sha256=None))
    monkeypatch.setattr(citeulike, "_SPLIT_COUNTS", (2, 4, 3, 2, 2))
    monkeypatch.setattr(citeulike, "_SPLIT_SHA256", ())


def _write(root: Path, users: str = USERS, **split: str) -> Path:
    (root / "loo").mkdir(parents=True)
    (root / "users.dat").write_text(users)
    for name, text in {**SPLIT, **split}.items():
        (root / "loo" / f"{name}.txt").write_text(text)
    return root


@pytest.mark.usefixtures("alone")
def test_users_below_the_minimum_and_their_items_are_dropped(tmp_path: Path) -> None:
    dataset = CiteULike(_write(tmp_path), min_interactions=3)
    assert repr(dataset) == "CiteULike()"
    data = dataset[0]
    assert data[USER].raw_id.tolist() == [1, 4]
    # Numbered in the order of first use: 7 is gone, and 10 comes after 40.
    assert data[ITEM].raw_id.tolist() == [20, 30, 40, 10, 50]
    assert data[INTERACTS].edge_index.tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 2, 2, 3, 4]]
    assert interactions(data)[1:] == (2, 5)


@pytest.mark.usefixtures("alone")
def test_leave_one_out_split(tmp_path: Path) -> None:
    dataset = CiteULike(_write(tmp_path / "raw").parent, split="leave_one_out")
    assert repr(dataset) == "CiteULike(3)"
    train, val, test = (data[INTERACTS] for data in dataset)
    assert train.edge_index.tolist() == val.edge_index.tolist() == [[0, 0, 1], [0, 1, 3]]
    assert "edge_label_index" not in train
    assert val.edge_label_index.tolist() == [[0, 1], [2, 0]]
    assert test.edge_index.tolist() == [[0, 0, 0, 1, 1], [0, 1, 2, 0, 3]]
    assert test.edge_label_index.tolist() == [[0, 1], [3, 1]]
    assert [data[ITEM].num_nodes for data in dataset] == [4, 4, 4]


@pytest.mark.usefixtures("alone")
def test_transforms_see_every_graph(tmp_path: Path) -> None:
    _write(tmp_path)

    def count(data):
        data.seen = data.get("seen", 0) + 1 if "seen" in data else 1
        return data

    dataset = CiteULike(tmp_path, split="leave_one_out", transform=count, pre_transform=count)
    assert [data.seen for data in dataset] == [2, 2, 2]
    assert [data.seen for data in dataset] == [2, 2, 2]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_interactions": 0}, r"'min_interactions' must be at least 1 \(got 0\)"),
        ({"split": "random"}, r"'split' must be None or 'leave_one_out' \(got 'random'\)"),
        ({"split": "leave_one_out", "min_interactions": 3}, r"must be 5 .* \(got 3\)"),
        ({"min_interactions": 9}, r"no user has 'min_interactions' items \(got 9\)"),
    ],
)
def test_options_are_checked(tmp_path: Path, options: dict[str, object], message: str) -> None:
    _write(tmp_path)
    with pytest.raises(ValueError, match=message):
        CiteULike(tmp_path, **options)


@pytest.mark.usefixtures("alone")
def test_broken_files_are_refused(tmp_path: Path) -> None:
    root = _write(tmp_path, users=USERS[:-4], test="0 3\n1 1 2\n")
    with pytest.raises(ValueError, match=r"list 5 of .*users.dat' must hold 3 items \(got 2\)"):
        CiteULike(root)
    with pytest.raises(ValueError, match=r"test.txt' must hold one item a user"):
        CiteULike(root, split="leave_one_out")


@pytest.mark.usefixtures("alone")
def test_missing_split_says_where_it_goes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'loo/train.txt', 'loo/valid.txt'.*no public"):
        CiteULike(tmp_path, split="leave_one_out")


@pytest.mark.usefixtures("alone")
def test_split_of_other_counts_is_refused(tmp_path: Path) -> None:
    message = r"must hold \(2, 4, 3, 2, 2\) users, items.*got \(2, 4, 2, 2, 2\)"
    with pytest.raises(ValueError, match=message):
        CiteULike(_write(tmp_path, train="0 0 1\n1\n"), split="leave_one_out")


def test_files_in_place_are_compared_with_the_published_ones(
    data_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(data_root / "citeulike", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "users.dat"
    path.write_bytes(path.read_bytes().replace(b"495", b"496", 1))
    with pytest.raises(ValueError, match=r"users.dat' must have the sha256 02d5d4.*Delete it"):
        CiteULike(tmp_path)
    for name in ("train", "valid", "test"):
        path = tmp_path / "loo" / f"{name}.txt"
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        path.write_bytes(b"".join(reversed(lines)))  # the same pairs
        CiteULike(tmp_path, split="leave_one_out")
        user, *items = lines[0].split()
        lines[0] = b" ".join([user, *items[:-1], str(int(items[-1]) + 1).encode()]) + b"\n"
        path.write_bytes(b"".join(lines))
        with pytest.raises(ValueError, match=rf"{name}.txt' must hold the pairs of the published"):
            CiteULike(tmp_path, split="leave_one_out")
        path.write_bytes(whole)


def test_published_graphs_have_the_same_numbering(data_root: Path) -> None:
    data = CiteULike()[0]
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == (5_219, 25_181)
    edges = data[INTERACTS].edge_index
    assert edges.size(1) == 125_580

    lines = (data_root / "citeulike" / "users.dat").read_text().splitlines()
    libraries = {n: set(map(int, line.split()[1:])) for n, line in enumerate(lines)}
    raw = zip(
        data[USER].raw_id[edges[0]].tolist(), data[ITEM].raw_id[edges[1]].tolist(), strict=True
    )
    kept = {(u, i) for u, items in libraries.items() if len(items) >= 5 for i in items}
    assert set(raw) == kept

    dataset = CiteULike(split="leave_one_out")
    train, val, test = (graph[INTERACTS] for graph in dataset)
    assert train.edge_index.size(1) == 115_142
    assert val.edge_label_index[0].tolist() == test.edge_label_index[0].tolist() == [*range(5_219)]
    together = torch.cat([test.edge_index, test.edge_label_index], dim=1)
    assert set(map(tuple, together.t().tolist())) == set(map(tuple, edges.t().tolist()))
