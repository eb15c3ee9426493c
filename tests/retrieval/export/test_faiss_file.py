from __future__ import annotations

import numpy as np
import pytest

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.export import faiss_file, write_faiss
from tests.retrieval.bundles import small_index

faiss = pytest.importorskip("faiss")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int4"])
def test_a_search_returns_original_ids(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(faiss_file, "BLOCK", 4)
    index = small_index(dtype, seen=None)
    write_faiss(index, tmp_path / "items.faiss")
    found = faiss.read_index(str(tmp_path / "items.faiss"))
    users = ["ada", "Zoë"]
    scores, items = found.search(index.vectors(users), 4)
    wanted = index.search(users, 4)
    assert np.array_equal(items, wanted[0]) and np.allclose(scores, wanted[1], rtol=1e-5)
    assert np.array_equal(found.reconstruct(9), index.x_item.rows(np.array([2]))[0])


def test_rows_in_place_of_strings(tmp_path):
    index = small_index(item_ids=[*"abcdefghi"])
    with pytest.raises(ValueError, match="original ids are strings"):
        write_faiss(index, tmp_path / "a")
    write_faiss(index, tmp_path / "a", ids="rows")
    _, rows = faiss.read_index(str(tmp_path / "a")).search(index.vectors(["bob"]), 3)
    wanted = index.search(["bob"], 3, exclude_seen=False)[0]
    assert index.items.take(rows).tolist() == wanted.tolist()


@pytest.mark.parametrize("factory", ["IVF4,Flat", "HNSW8"])
def test_approximate_indices(tmp_path, factory):
    rng = np.random.default_rng(0)
    index = TopKIndex(rng.normal(size=(20, 8)), rng.normal(size=(400, 8)))
    write_faiss(index, tmp_path / "a", factory=factory)
    found = faiss.read_index(str(tmp_path / "a"))
    assert found.ntotal == 400
    _, rows = found.search(index.vectors(np.arange(20)), 10)
    wanted = index.search(np.arange(20), 10)[0]
    overlap = np.mean([len({*a} & {*b}) / 10 for a, b in zip(rows, wanted, strict=True)])
    assert overlap > 0.3


def test_an_id_that_means_none(tmp_path):
    index = small_index(item_ids=np.arange(9) - 3)
    with pytest.raises(ValueError, match="an item has the id -1"):
        write_faiss(index, tmp_path / "a")
    write_faiss(index, tmp_path / "a", ids="rows")


def test_wrong_options(tmp_path):
    with pytest.raises(ValueError, match=r"'factory' must be known to faiss \(got 'Tree'\)"):
        write_faiss(small_index(), tmp_path / "a", factory="Tree")
    with pytest.raises(ValueError, match=r"'ids' must be one of .*\(got 'names'\)"):
        write_faiss(small_index(), tmp_path / "a", ids="names")  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()
