"""What is kept of a refresh, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.files import atomic_write
from pyg_kd.graph import interactions
from pyg_kd.json_files import read_json, write_json
from pyg_kd.knowledge.requirements import hash_tensor
from pyg_kd.study.refresh.recipe import Recipe
from pyg_kd.study.refresh.tables import Lists, Tables, Teacher
from pyg_kd.study.refresh.task import Served
from pyg_kd.transforms import TimeBlocks
from pyg_kd.transforms.split import edge_times

FORMAT = "pyg_kd.refresh.1"
_TABLES = ("user", "item", "has_user", "has_item")
_LISTS = ("items", "has_item")


def key_of(data: HeteroData, blocks: TimeBlocks, recipe: Recipe, metric: str) -> str:
    """SHA-256 of all that results depend on, callables by what they print."""
    settings = [repr(value) for value in (blocks, recipe.num_items, metric)]
    settings += [_told(value) for value in (recipe.teacher, recipe.student)]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for tensor in (interactions(data).edge_index, edge_times(data)):
        hash_tensor(digest, tensor)
    return digest.hexdigest()


def _told(value: Any) -> str:
    """What a callable prints; a function, which prints its address, by its name."""
    name = getattr(value, "__qualname__", None)
    return repr(value) if name is None else f"{value.__module__}.{name}"


@dataclass(frozen=True)
class Folder:
    r"""Results of steps, ``seed-0/never/step-1.json`` and what was served in ``step-1.pt``.

    Args:
        root: The folder; ``None`` keeps nothing.
        key: What :func:`key_of` returned.

    Raises:
        ValueError: If the folder holds results of something else, or is damaged.
    """

    root: Path | None
    key: str

    def __post_init__(self) -> None:
        if self.root is None:
            return
        path, mine = self.root / "refresh.json", {"format": FORMAT, "key": self.key}
        if not path.exists():
            write_json(path, mine)
        elif read_json(path) != mine:
            raise ValueError(
                f"'folder' holds results of other data, blocks, recipe or metric "
                f"(got {str(self.root)!r}): name another one"
            )

    def record(self, seed: int, policy: str, step: int) -> dict[str, Any] | None:
        """The result of a step, if it is there."""
        if self.root is None:
            return None
        path = self._path(seed, policy, step, "json")
        return read_json(path) if path.exists() else None

    def served(self, seed: int, policy: str, step: int) -> Served:
        """What was served after a step whose result is there."""
        path = self._path(seed, policy, step, "pt")
        state = torch.load(path, weights_only=True)
        return _unpacked(state)

    def keep(
        self, seed: int, policy: str, step: int, record: dict[str, Any], served: Served
    ) -> None:
        """Keep a step; the result, which says that all is there, is written last."""
        if self.root is None:
            return
        with atomic_write(self._path(seed, policy, step, "pt")) as path:
            torch.save(_packed(served), path)
        write_json(self._path(seed, policy, step, "json"), record)

    def _path(self, seed: int, policy: str, step: int, kind: str) -> Path:
        assert self.root is not None
        name = "".join(c if c.isalnum() or c in ".-" else "-" for c in policy)
        return self.root / f"seed-{seed}" / name / f"step-{step}.{kind}"


def _packed(served: Served) -> dict[str, Any]:
    return {
        "student": _fields(served.student),
        "trained": _fields(served.trained),
        "teacher": _fields(served.teacher),
        "popularity": served.popularity,
        "steps": (served.trained_at, served.taught_at),
    }


def _fields(tables: Teacher) -> dict[str, Tensor]:
    names = _TABLES if isinstance(tables, Tables) else _LISTS
    return {name: getattr(tables, name) for name in names}


def _unpacked(state: dict[str, Any]) -> Served:
    told = state["teacher"]
    teacher: Teacher = Tables(**told) if "user" in told else Lists(**told)
    trained_at, taught_at = state["steps"]
    return Served(
        Tables(**state["student"]),
        state["popularity"],
        Tables(**state["trained"]),
        trained_at,
        teacher,
        taught_at,
    )
