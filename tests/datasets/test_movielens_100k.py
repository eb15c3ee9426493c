from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.datasets import MovieLens100K, movielens_100k
from pyg_kd.transforms import KCore, LeaveOneOut, TemporalSplit, UserSplit
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
        archive.writestr("ml-100k/u.item", "".join(_films(_title)).encode("latin-1"))
    local = replace(movielens_100k._RATINGS, url=(tmp_path / "ml.zip").as_uri())
    monkeypatch.setattr(movielens_100k, "_RATINGS", local)
    with pytest.raises(ValueError, match="must have the sha256"):
        MovieLens100K(tmp_path / "root")
    for name in ("_RATINGS", "_FILMS"):
        file = replace(getattr(movielens_100k, name), url=local.url, sha256=None)
        monkeypatch.setattr(movielens_100k, name, file)
    dataset = MovieLens100K(tmp_path / "root")
    _check(dataset, table)
    assert dataset[0][ITEM].title == _titles(dataset[0])
    raw = tmp_path / "root" / "raw"
    assert sorted(p.name for p in raw.iterdir()) == dataset.raw_file_names == ["u.data", "u.item"]
    (raw / "u.item").unlink()  # what is there is not downloaded again
    assert "title" not in MovieLens100K(tmp_path / "root")[0][ITEM]


def _title(film: int) -> str:
    return "unknown" if film == 267 else f"Misérables, Les {film} ({1900 + film % 99})"


def _films(title: Callable[[int], str]) -> list[str]:
    """Made-up lines of ``u.item``."""
    return [
        f"{film}|{title(film)}|01-Jan-1995||http://x|{'|'.join(map(str, _genres(film)))}\n"
        for film in range(1, SIZE[1] + 1)
    ]


def _genres(film: int) -> list[int]:
    """Two genres, or one."""
    return [int(place in (film % 19, film % 7)) for place in range(19)]


def _atomic_films() -> list[str]:
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    pattern, lines = re.compile(r"(.*) \((\d+)\)"), [header]
    for film in range(1, SIZE[1] + 1):
        found = pattern.fullmatch(_title(film))
        fields = found.groups() if found else (_title(film), "unknown")
        names = [
            name
            for name, is_one in zip(movielens_100k.GENRES, _genres(film), strict=True)
            if is_one
        ]
        lines.append("\t".join([str(film), *fields, " ".join(names)]) + "\n")
    return lines


def _described(data: HeteroData) -> bool:
    """Whether each film has its own genres."""
    expected = torch.tensor([_genres(film) for film in data[ITEM].raw_id.tolist()])
    return torch.equal(data[ITEM].genre, expected.float())


def _titles(data: HeteroData) -> list[str]:
    return [_title(film) for film in data[ITEM].raw_id.tolist()]


@pytest.mark.parametrize("min_rating", [0, 5])
def test_titles_and_genres_of_either_file(
    tmp_path: Path, table: np.ndarray, min_rating: int
) -> None:
    _write_data(tmp_path / "u.data", table)
    assert "title" not in MovieLens100K(tmp_path)[0][ITEM]
    (tmp_path / "ml-100k.item").write_text("".join(_atomic_films()), encoding="utf-8")
    data = MovieLens100K(tmp_path, min_rating)[0]
    assert _described(data)
    assert data[ITEM].title == _titles(data) and "Misérables, Les 1 (1901)" in data[ITEM].title
    (tmp_path / "raw").mkdir()
    lines = _films(lambda film: f"{_title(film)}!")[::-1]  # in any order
    (tmp_path / "raw" / "u.item").write_text("".join(lines), encoding="latin-1")
    data = MovieLens100K(tmp_path, min_rating)[0]
    assert data[ITEM].title == [f"{title}!" for title in _titles(data)] and _described(data)


def test_titles_and_genres_follow_their_films(tmp_path: Path, table: np.ndarray) -> None:
    _write_data(tmp_path / "u.data", table)
    (tmp_path / "u.item").write_text("".join(_films(_title)), encoding="latin-1")
    data = MovieLens100K(tmp_path)[0]
    graphs = [*UserSplit(val=0.1)(data), *TemporalSplit()(data), *LeaveOneOut()(data)]
    core = KCore(k_user=1, k_item=55)(data)
    assert 0 < core[ITEM].num_nodes < SIZE[1]
    for graph in [*graphs, core, KCore(k_user=1, k_item=60)(core)]:
        assert len(graph[ITEM].title) == graph[ITEM].num_nodes
        assert graph[ITEM].title == _titles(graph) and _described(graph)


def test_damaged_films(tmp_path: Path, table: np.ndarray) -> None:
    _write_data(tmp_path / "u.data", table)
    lines = _films(_title)
    (tmp_path / "u.item").write_text("".join(lines[:4] + lines[5:]), encoding="latin-1")
    with pytest.raises(ValueError, match=r"u.item' must name all films \(film '5' is missing\)"):
        MovieLens100K(tmp_path)
    (tmp_path / "u.item").write_text("1;Toy Story\n")
    with pytest.raises(ValueError, match=r"u.item' must hold the published films \("):
        MovieLens100K(tmp_path)
    (tmp_path / "u.item").write_text("".join(lines).replace("|0|", "|2|", 1))
    with pytest.raises(ValueError, match="film 1 has other genres than 0 or 1, 19 times"):
        MovieLens100K(tmp_path)
    (tmp_path / "u.item").unlink()
    (tmp_path / "ml-100k.item").write_text("".join(_atomic_films()).replace("unknown A", "Jazz A"))
    with pytest.raises(ValueError, match=r"ml-100k.item' must .* \(film 21 has the genre 'Jazz'"):
        MovieLens100K(tmp_path)
    (tmp_path / "ml-100k.item").write_text("".join(_atomic_films()), encoding="latin-1")
    with pytest.raises(ValueError, match=r"ml-100k.item' must hold the published films \('utf-8'"):
        MovieLens100K(tmp_path)


def test_published_graph(data_root: Path) -> None:
    folder = data_root / "ml-100k"
    if not any((folder / name).is_file() for name in ("u.data", "ml-100k.inter")):
        pytest.skip(f"{os.fspath(folder)} holds no ratings")
    data = MovieLens100K()[0]
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == SIZE
    assert data[INTERACTS].edge_index.size(1) == 100_000
