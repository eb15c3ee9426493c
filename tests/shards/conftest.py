"""A job without any science: squares of numbers, then a sum of all of them in every part."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pyg_kd.shards import Part, parts_of
from pyg_kd.shards.folder import WORK


class Squares:
    threads = 1
    independent = False

    def __init__(self, size: int = 10, rows: int = 3, seconds: float = 0.0, salt: int = 0) -> None:
        self.size, self.rows, self.seconds, self.salt = size, rows, seconds, salt
        self.made: list[str] = []
        self.pids: Path | None = None
        self.fault: Callable[[Part], None] | None = None

    @property
    def request(self) -> dict[str, Any]:
        return {"kind": "squares", "size": self.size, "rows": self.rows, "salt": self.salt}

    @property
    def stages(self) -> list[list[Part]]:
        return [parts_of("squares", self.size, self.rows), parts_of("sums", 4, 2)]

    def working(self) -> Any:
        return nullcontext()

    def make(self, part: Part, folder: Path, report: Any) -> dict[str, bytes]:
        self.made.append(part.name)
        if self.pids is not None:
            (self.pids / str(os.getpid())).touch()
        if self.fault is not None:
            self.fault(part)
        time.sleep(self.seconds)
        report(len(part))
        if part.kind == "squares":
            squares = [(n + self.salt) ** 2 for n in range(part.start, part.stop)]
            own = f"{WORK}/sum-{part.number}.txt"
            return {part.name: str(squares).encode(), own: str(sum(squares)).encode()}
        totals = [int((folder / WORK / f"sum-{p.number}.txt").read_text()) for p in self.stages[0]]
        return {part.name: f"{part.start} {sum(totals)}".encode()}


@pytest.fixture
def job() -> Squares:
    return Squares()


def content(folder: Path) -> dict[str, bytes]:
    """All files in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


EXPECTED = {
    "squares-00000.parquet": b"[0, 1, 4]",
    "squares-00001.parquet": b"[9, 16, 25]",
    "squares-00002.parquet": b"[36, 49, 64]",
    "squares-00003.parquet": b"[81]",
    "sums-00000.parquet": b"0 285",
    "sums-00001.parquet": b"2 285",
}
