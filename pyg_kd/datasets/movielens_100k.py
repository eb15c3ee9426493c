"""Films rated by the users of MovieLens."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kd.datasets.graph import edges_digest
from pyg_kd.datasets.raw import RawFile, locate, obtain
from pyg_kd.datasets.tables import from_interactions
from pyg_kd.typing import ITEM

_FOLDER = "ml-100k"
_RATINGS = RawFile(
    "u.data",
    "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    member="ml-100k/u.data",
)
_FILMS = replace(_RATINGS, name="u.item", member="ml-100k/u.item")
#: The same ratings and films below a header line, as RecBole writes them.
_ATOMIC = "ml-100k.inter"
_ATOMIC_FILMS = "ml-100k.item"
_NUM_RATINGS = 100_000
#: The columns of ``data["item"].genre``.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
#: Of users, items, ratings and times as four rows of int64, sorted by user, then item.
_CONTENT_SHA256: str | None = "439762c0673d19e670de6b91ed8d47eac586f1da7fc7f26d1923858c4d47b92c"


class MovieLens100K(InMemoryDataset):
    r"""The MovieLens 100K ratings of the `"The MovieLens Datasets: History and
    Context" <https://doi.org/10.1145/2827872>`_ paper, read as implicit feedback.

    943 users, 1,682 items and 100,000 edges, sorted by user, then item. The edge
    attribute ``time``, int64 ``[E]``, is in seconds since 1970, and ``raw_id`` of
    either node type, int64, is the id in the file. ``data["item"].title``, a list of
    :obj:`str` ``[1682]``, names the films, as in ``"Toy Story (1995)"``, and
    ``data["item"].genre``, float32 ``[1682, 19]`` of 0 and 1, tells their genres, in the order of
    :data:`~pyg_kd.datasets.movielens_100k.GENRES`, if there is a file that describes them.

    Args:
        root: Root folder. ``u.data`` or ``ml-100k.inter`` is looked for in
            ``root/raw``, in ``root`` and in ``$PYG_KD_DATA/ml-100k`` and is only read
            there, and so are titles and genres of films, in ``u.item`` or ``ml-100k.item``.
            ``u.data`` and ``u.item`` are downloaded to ``root/raw`` if there are no ratings.
        min_rating: Only ratings of at least this value, of 1 to 5, are interactions.
            Users and items without any are dropped.
        transform: Applied to the graph on every access.
        pre_transform: Applied to the graph once.

    Raises:
        FileNotFoundError: If no raw file is found and none can be downloaded.
        ValueError: If ``min_rating`` is above 5, the file does not hold the published ratings, or
            a file that describes films leaves one out.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        min_rating: float = 0,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        if not min_rating <= 5:
            raise ValueError(f"'min_rating' must be at most 5 (got {min_rating})")
        super().__init__(None if root is None else str(root), transform, pre_transform)
        located = locate([_RATINGS.name], root, _FOLDER)
        atomic = None if located else locate([_ATOMIC], root, _FOLDER)
        if atomic is None:
            name = type(self).__name__
            wanted = [_RATINGS] if located else [_RATINGS, _FILMS]
            path = obtain(name, wanted, root, _FOLDER) / _RATINGS.name
        else:
            path = atomic / _ATOMIC
        data = _read_ratings(path, min_rating)
        _describe_films(data, root)
        if pre_transform is not None:
            data = pre_transform(data)
        self.data, self.slices = self.collate([data])

    @property
    def raw_file_names(self) -> list[str]:
        """The raw files that are downloaded."""
        return [_RATINGS.name, _FILMS.name]


def _read_ratings(path: Path, min_rating: float) -> HeteroData:
    text = path.read_text(encoding="ascii")
    if not text[:1].isdigit():
        text = text.partition("\n")[2]
    # Exact: ids and seconds are far below 2 ** 53.
    number: npt.NDArray[np.float64] = np.fromstring(text, dtype=np.float64, sep=" ")
    if number.size != 4 * _NUM_RATINGS:
        raise ValueError(
            f"'{path}' must hold {_NUM_RATINGS:,} lines of four numbers (got {number.size} numbers)"
        )
    # User, item, rating and time; sorted, since files differ in the order of their lines.
    table = number.reshape(-1, 4)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    content = torch.from_numpy(table.T.astype(np.int64))
    if _CONTENT_SHA256 not in (None, edges_digest(content)):
        raise ValueError(
            f"'{path}' must hold the published ratings, but they differ from those: it is "
            "damaged; delete it, or put the published file there"
        )
    user, item, rating, time = content
    kept = rating >= min_rating
    column = [values[kept] for values in (user, item, time)]
    return from_interactions({"user": column[0], "item": column[1], "time": column[2]}, time="time")


def _describe_films(data: HeteroData, root: str | os.PathLike[str] | None) -> None:
    """Put titles and genres of the films on the items, if there is a file that holds them."""
    name = _FILMS.name
    if (folder := locate([name], root, _FOLDER)) is None:
        name = _ATOMIC_FILMS
        if (folder := locate([name], root, _FOLDER)) is None:
            return
    path = folder / name
    try:
        films = _read_films(path) if name == _FILMS.name else _read_atomic_films(path)
        found = [films[str(film)] for film in data[ITEM].raw_id.tolist()]
    except KeyError as error:
        raise ValueError(f"{str(path)!r} must name all films (film {error} is missing)") from error
    except ValueError as error:  # another encoding, fewer columns, or a foreign genre
        raise ValueError(f"{str(path)!r} must hold the published films ({error})") from error
    data[ITEM].title = [title for title, _ in found]
    genre = torch.zeros(len(found), len(GENRES))
    for film, (_, genres) in enumerate(found):
        genre[film, list(genres)] = 1.0
    data[ITEM].genre = genre


def _read_films(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Title and genres by the id of the film, from the published file."""
    films = {}
    for line in filter(None, path.read_text(encoding="latin-1").split("\n")):
        film, title, *_, flags = line.split("|", 5)
        given = flags.split("|")
        if len(given) != len(GENRES) or not set(given) <= {"0", "1"}:
            raise ValueError(f"film {film} has other genres than 0 or 1, {len(GENRES)} times")
        films[film] = title, [genre for genre, flag in enumerate(given) if flag == "1"]
    return films


def _read_atomic_films(path: Path) -> dict[str, tuple[str, list[int]]]:
    """The same, from the file with a header line."""
    films = {}
    for line in filter(None, path.read_text(encoding="utf-8").split("\n")[1:]):
        film, title, year, genres = line.split("\t", 3)
        title = f"{title} ({year})" if year.isdigit() else title  # one has no year
        if foreign := set(genres.split()) - set(GENRES):
            raise ValueError(f"film {film} has the genre {foreign.pop()!r}")
        films[film] = title, [GENRES.index(genre) for genre in genres.split()]
    return films
