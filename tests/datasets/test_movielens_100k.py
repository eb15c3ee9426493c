from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_kd.datasets import MovieLens100K, movielens_100k
from pyg_kd.typing import INTERACTS, ITEM, USER

SIZE = (943, 1_682)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """Made-up ratings of the true size: ``user item rating time``, shuffled."""
    rng = np.random.default_rng(0)
    cells = rng.permutation(SIZE[0] * SIZE[1])[:100_000]
    rows = np.stack([cells // SIZE[1] + 1, cells % SIZE[1] + 1], axis=1)
    rating = rng.integers(1, 6, 100_000)
    time = rng.integers(874_724_710, 893_286_638, 100_000)
    return np.column_stack([rows, rating, time])


@pytest.fixture(autouse=True)
def _no_data_folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "data_root" not in request.fixturenames:
        monkeypatch.delenv("PYG_KD_DATA", raising=False)
        # The made-up ratings are taken for the published ones.
        monkeypatch.setattr(movielens_100k, "_CONTENT_SHA256", None)


def _write_data(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, table, fmt="%d", delimiter="\t")


def _check(dataset: MovieLens100K, table: np.ndarray) -> None:
    assert repr(dataset) == "MovieLens100K()"
    data = dataset[0]
    user, item = data[INTERACTS].edge_index
    found = zip(
        data[USER].raw_id[user].tolist(),
        data[ITEM].raw_id[item].tolist(),
        data[INTERACTS].time.tolist(),
        strict=True,
    )
    assert list(found) == sorted(map(tuple, table[:, [0, 1, 3]].tolist()))
    assert data[INTERACTS].time.dtype == torch.long


def test_reads_either_file(tmp_path: Path, table: np.ndarray) -> None:
    _write_data(tmp_path / "a" / "raw" / "u.data", table)
    _check(MovieLens100K(tmp_path / "a"), table)

    path = tmp_path / "b" / "ml-100k.inter"
    path.parent.mkdir()
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    np.savetxt(
        path, table, fmt=["%d", "%d", "%.1f", "%d"], delimiter="\t", header=header, comments=""
    )
    _check(MovieLens100K(tmp_path / "b"), table)


def test_min_rating(tmp_path: Path, table: np.ndarray) -> None:
    _write_data(tmp_path / "u.data", table)
    _check(MovieLens100K(tmp_path, min_rating=4), table[table[:, 2] >= 4])
    with pytest.raises(ValueError, match=r"'min_rating' must be at most 5 \(got 6\)"):
        MovieLens100K(tmp_path, min_rating=6)


def test_truncated_file(tmp_path: Path, table: np.ndarray) -> None:
    _write_data(tmp_path / "u.data", table[:-1])
    with pytest.raises(ValueError, match=r"100,000 lines of four numbers \(got 399996 numbers\)"):
        MovieLens100K(tmp_path)


def test_other_ratings_are_refused(
    tmp_path: Path, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_data(tmp_path / "u.data", table[::-1])
    monkeypatch.setattr(movielens_100k, "_CONTENT_SHA256", _digest(table))
    _check(MovieLens100K(tmp_path), table)
    for column in (1, 2):
        other = table.copy()
        other[70_000, column] += 1
        _write_data(tmp_path / "u.data", other)
        with pytest.raises(ValueError, match=r"u.data' must hold the published ratings, but"):
            MovieLens100K(tmp_path)


def _digest(table: np.ndarray) -> str:
    rows = np.array(sorted(map(tuple, table.tolist())), dtype="<i8")
    return hashlib.sha256(rows.T.tobytes()).hexdigest()


def test_download(tmp_path: Path, table: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_data(tmp_path / "u.data", table)
    with zipfile.ZipFile(tmp_path / "ml.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "u.data", "ml-100k/u.data")
    local = replace(movielens_100k._RATINGS, url=(tmp_path / "ml.zip").as_uri())
    monkeypatch.setattr(movielens_100k, "_RATINGS", local)
    with pytest.raises(ValueError, match="must have the sha256"):
        MovieLens100K(tmp_path / "root")
    monkeypatch.setattr(movielens_100k, "_RATINGS", replace(local, sha256=None))
    _check(MovieLens100K(tmp_path / "root"), table)
    assert [p.name for p in (tmp_path / "root" / "raw").iterdir()] == ["u.data"]


def test_published_graph(data_root: Path) -> None:
    folder = data_root / "ml-100k"
    if not any((folder / name).is_file() for name in ("u.data", "ml-100k.inter")):
        pytest.skip(f"{os.fspath(folder)} holds no ratings")
    data = MovieLens100K()[0]
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == SIZE
    assert data[INTERACTS].edge_index.size(1) == 100_000
