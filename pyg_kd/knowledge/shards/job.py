"""What one process does for shards of knowledge: it ranks users, and merges lists of items."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.graph import Neighbors
from pyg_kd.knowledge.top_users import TopUsers, merged_top
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference
from pyg_kd.shards.folder import WORK
from pyg_kd.shards.parquet import (
    Ids,
    arrow,
    ids_column,
    list_columns,
    smallest,
    vector_column,
    write_table,
)
from pyg_kd.shards.parts import Content, Part, Report, parts_of
from pyg_kd.typing import ITEM, USER

Array = npt.NDArray[Any]

KIND = "knowledge"

#: Files merged at once.
AT_ONCE = 16


@dataclass
class Extraction:
    r"""A :class:`~pyg_kd.shards.Job`.

    Args:
        about: Fingerprints of the graph and the teacher, and what else is told of it.
        teacher: What scores pairs; nothing where inner products do.
        x_user: Its representations of the users.
        x_item: Those of the items.
        seen: The items of each user.
        raw_ids: Original ids of users and items, by node type; positions where there are none.
        users: The users who get lists, ascending, int64; all by default.
        num_items: Length of their lists.
        num_users: Length of the lists of items.
        rows: Rows of a part.
        vectors: Whether representations are written.
        threads: Threads of a process.
        blocks: ``row_block`` and ``col_tile`` of the ranking.
    """

    about: dict[str, Any]
    teacher: Recommender | None
    x_user: Tensor
    x_item: Tensor
    seen: Neighbors
    raw_ids: dict[str, Ids | None]
    users: Tensor | None
    num_items: int
    num_users: int
    rows: int
    vectors: bool
    threads: int
    blocks: dict[str, int | None]

    @property
    def request(self) -> dict[str, Any]:
        """All that the bytes depend on."""
        users = None
        if self.users is not None:
            users = hashlib.sha256(self.users.cpu().numpy().tobytes()).hexdigest()
        return {
            "kind": KIND,
            **self.about,
            "sizes": {USER: len(self.x_user), ITEM: len(self.x_item)},
            "users": users,
            "listed": self.num_listed,
            "num_items": self.num_items,
            "num_users": self.num_users,
            "rows": self.rows,
            "vectors": self.vectors,
            "threads": self.threads,
            "blocks": self.blocks,
        }

    @property
    def independent(self) -> bool:
        """Whether no lists of items are merged."""
        return not self.num_users

    @property
    def ranks(self) -> bool:
        """Whether there are lists at all."""
        return self.num_items > 0 or self.num_users > 0

    @property
    def num_listed(self) -> int:
        """How many users get lists."""
        return len(self.x_user) if self.users is None else len(self.users)

    @property
    def stages(self) -> list[list[Part]]:
        """Users, whose tiles say what the lists of items are made of, then items."""
        return [
            parts_of("users", self.num_listed, self.rows),
            parts_of("items", len(self.x_item), self.rows),
        ]

    @contextmanager
    def working(self) -> Iterator[None]:
        """As many threads as are told: on them the last bits of scores may depend."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            if self.teacher is None:
                yield
            else:
                with inference(self.teacher):
                    yield
        finally:
            torch.set_num_threads(before)

    def make(self, part: Part, folder: Path, report: Report) -> dict[str, Content]:
        """The file of a part; of users also the best of them for every item."""
        if part.kind == "users":
            return self._users(part, report)
        return self._items(part, folder, report)

    def score(self, rows: Tensor, cols: slice) -> Tensor:
        """Scores of some users and a range of items."""
        x_user, x_item = self.x_user[rows], self.x_item[cols]
        if self.teacher is None:
            return x_user @ x_item.t()
        return self.teacher.score_block(x_user, x_item)

    def _users(self, part: Part, report: Report) -> dict[str, Content]:
        rows = torch.arange(part.start, part.stop, device=self.x_user.device)
        rows = rows if self.users is None else self.users[part.start : part.stop]
        top = TopUsers(len(self.x_item), self.num_users, rows.device) if self.num_users else None
        ids, scores = self._rank(rows, top, report) if self.ranks else _nothing(len(rows))
        columns = self._columns(USER, rows) | _lists("items", ids, scores)
        files = {part.name: self._file(columns, USER, rows)}
        if top is not None:
            best, users = (x.cpu().numpy() for x in top.result())
            files[_beside(part)] = save({"scores": best, "users": users})
        return files

    def _rank(self, rows: Tensor, top: TopUsers | None, report: Report) -> tuple[Array, Array]:
        """Lists of users, and their scores."""
        shape = len(rows), max(self.num_items, 1)  # lists of one, where only items have some
        ids = np.full(shape, -1, smallest(len(self.x_item)))
        scores = np.zeros(shape, np.float32)
        done = 0
        for block in rank_unseen(
            self.score, len(self.x_user), len(self.x_item), shape[1],
            seen=self.seen, rows=rows, progress=report,
            on_tile=None if top is None else top.add, **self.blocks,
        ):  # fmt: skip
            place = slice(done, done := done + len(block.rows))
            ids[place], scores[place] = block.ids.cpu().numpy(), block.values.cpu().numpy()
        return ids[:, : self.num_items], scores[:, : self.num_items]

    def _items(self, part: Part, folder: Path, report: Report) -> dict[str, Content]:
        rows = torch.arange(part.start, part.stop, device=self.x_item.device)
        columns = self._columns(ITEM, rows)
        if self.num_users:
            scores, ids = (x.numpy() for x in self._merged(part, folder))
            columns |= _lists("users", ids.astype(smallest(len(self.x_user))), scores)
        report(len(part))
        return {part.name: self._file(columns, ITEM, rows)}

    def _merged(self, items: Part, folder: Path) -> tuple[Tensor, Tensor]:
        """The best of all users for some items, a few files at a time."""
        users, best = self.stages[0], []
        for start in range(0, len(users), AT_ONCE):
            some = users[start : start + AT_ONCE]
            best += [_read(folder / _beside(part), items) for part in some]
            best = [merged_top(best, self.num_users)]
        return best[0]

    def _columns(self, node_type: str, rows: Tensor) -> dict[str, Any]:
        """Positions and original ids of some nodes."""
        place = rows.cpu().numpy()
        raw = self.raw_ids[node_type]
        ids: Ids = place
        if isinstance(raw, np.ndarray):
            ids = raw[place]
        elif raw is not None:
            ids = [raw[row] for row in place.tolist()]
        size = len(self.x_user if node_type == USER else self.x_item)
        return {"node": arrow().array(place.astype(smallest(size))), node_type: ids_column(ids)}

    def _file(self, columns: dict[str, Any], node_type: str, rows: Tensor) -> Content:
        if self.vectors:
            x = (self.x_user if node_type == USER else self.x_item)[rows].cpu()
            x = x.float() if x.dtype.itemsize < 4 else x
            columns["vector"] = vector_column(x.numpy())
        told = {f"pyg_kd.{key}": str(value) for key, value in self.about.items()}
        return write_table(columns, told)

    def __getstate__(self) -> dict[str, Any]:
        """Tables as arrays, which other processes of a machine can share."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Tables as tensors again."""
        with warnings.catch_warnings():
            # Shared arrays are read-only, and nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            vars(self).update({name: _tensors(value) for name, value in state.items()})


def _nothing(size: int) -> tuple[Array, Array]:
    """Lists without places."""
    return np.empty((size, 0), np.int32), np.empty((size, 0), np.float32)


def _lists(name: str, ids: Array, scores: Array) -> dict[str, Any]:
    """The columns of lists; none where they have no places."""
    if not ids.shape[1]:
        return {}
    columns = list_columns(ids >= 0, ids, scores.astype(np.float32))
    return dict(zip((name, "scores"), columns, strict=True))


def _beside(part: Part) -> str:
    """The file with the best of the users of a part for every item."""
    return f"{WORK}/top-{part.number:05d}.safetensors"


def _read(path: Path, items: Part) -> tuple[Tensor, Tensor]:
    """Scores and users of a range of items in such a file."""
    with safe_open(path, framework="pt") as file:
        scores, users = (
            file.get_slice(name)[items.start : items.stop] for name in ("scores", "users")
        )
    return scores, users


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        known = value.device.type == "cpu" and value.dtype != torch.bfloat16
        return value.numpy() if known else value
    return tuple(map(_plain, value)) if isinstance(value, Neighbors) else value


def _tensors(value: Any) -> Any:
    if isinstance(value, tuple):
        return Neighbors(*map(_tensors, value))
    return torch.as_tensor(value) if isinstance(value, np.ndarray) else value
