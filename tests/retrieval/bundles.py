"""Small indices and bundles for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.bundle.manifest import MANIFEST, to_bytes
from pyg_kd.retrieval.bundle.tensor_files import decode

USERS = ["ada", "bob", "eve", "Zoë", "žofie", "", "日本"]


def small_index(dtype: str = "float32", seed: int = 0, **options: Any) -> TopKIndex:
    """Seven users with strings for ids, nine items with integers; users 2 and 6 saw nothing."""
    rng = np.random.default_rng(seed)
    given: dict[str, Any] = {
        "seen": ([0, 2, 3, 3, 5, 6, 9, 9], [1, 4, 0, 8, 2, 3, 5, 6, 7]),
        "user_ids": USERS,
        "item_ids": np.arange(9) * 7 - 5,
        "dtype": dtype,
        **options,
    }
    return TopKIndex(rng.normal(size=(7, 5)), rng.normal(size=(9, 5)), **given)


def answers(index: TopKIndex) -> list[Any]:
    """What an index answers, in a form that is compared exactly."""
    users = index.users.take(np.arange(index.num_users))
    items = index.items.take(np.arange(index.num_items))
    lists = [
        index.search(users, 4),
        index.search(users, 20, exclude_seen=False),
        index.search_history([items[:3], items[:1]], 4),
        index.most_popular(4) if index.popularity is not None else ([], []),
    ]
    return [
        [users.tolist(), items.tolist()],
        *[[np.asarray(part).tolist() for part in pair] for pair in lists],
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files and no others."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
    return folder


def fields_of(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return told


def arrays_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Copies of the arrays of every part."""
    return {
        part: {k: v.copy() for k, v in decode((folder / entry["file"]).read_bytes()).items()}
        for part, entry in fields_of(folder)["files"].items()
    }


def resealed(folder: Path, **changes: Any) -> None:
    """Change fields of a manifest, and give it the digest that it then has."""
    told = {k: v for k, v in fields_of(folder).items() if k not in ("format", "version", "sha256")}
    (folder / MANIFEST).write_bytes(to_bytes({**told, **changes}))


def load(folder: Path, **options: Any) -> TopKIndex:
    return load_student(folder, **options)
