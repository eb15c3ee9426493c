from __future__ import annotations

from pathlib import Path

import pytest

from pyg_kd.datasets import Gowalla
from pyg_kd.typing import INTERACTS, ITEM, USER


def _pairs(path: Path) -> list[tuple[int, int]]:
    lines = (list(map(int, line.split())) for line in path.read_text().splitlines())
    return sorted({(line[0], item) for line in lines for item in line[1:]})


def test_published_graph(data_root: Path) -> None:
    dataset = Gowalla()
    data = dataset[0]
    assert repr(dataset) == "Gowalla()"
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == (29_858, 40_981)
    store = data[INTERACTS]
    assert (store.edge_index.size(1), store.edge_label_index.size(1)) == (810_128, 217_242)
    folder = data_root / "gowalla"
    train = _pairs(folder / "train.txt")
    assert store.edge_index[0].tolist() == [user for user, _ in train]
    assert store.edge_index[1].tolist() == [item for _, item in train]
    assert list(map(tuple, store.edge_label_index.t().tolist())) == _pairs(folder / "test.txt")


def test_one_changed_item_is_noticed(data_root: Path, tmp_path: Path) -> None:
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).symlink_to(data_root / "gowalla" / name)
    lines = (data_root / "gowalla" / "train.txt").read_text().splitlines()
    user, *items = lines[-1].split()
    other = next(str(i) for i in range(40_981) if str(i) not in items)
    lines[-1] = " ".join([user, *items[:-1], other])
    (tmp_path / "train.txt").unlink()
    (tmp_path / "train.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"must hold the published interactions in train.txt"):
        Gowalla(tmp_path)
