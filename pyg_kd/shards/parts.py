"""Parts of a long work, each the file of a range of rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pyg_kd.checks import require_count

#: Names of parts, complete: what they hold, and their number.
NAME = re.compile(r"([a-z]+)-([0-9]{5,})\.parquet")

#: The content of a file: bytes, or another contiguous buffer.
Content = Any

#: Called with the number of rows done.
Report = Callable[[int], object]


class Part(NamedTuple):
    """A file, and the range of rows that it holds."""

    name: str
    start: int
    stop: int

    @property
    def kind(self) -> str:
        """What its rows are.

        Example:
            >>> Part("users-00003.parquet", 300, 400).kind
            'users'
        """
        return self.name.partition("-")[0]

    @property
    def number(self) -> int:
        """Its place among the parts of its kind.

        Example:
            >>> Part("users-00003.parquet", 300, 400).number
            3
        """
        return int(self.name.partition("-")[2].partition(".")[0])

    def __len__(self) -> int:
        return self.stop - self.start


class Job(Protocol):
    """What is made. Other processes get a copy of it."""

    @property
    def threads(self) -> int:
        """Threads of a process."""

    @property
    def independent(self) -> bool:
        """Whether no part needs another one."""

    @property
    def request(self) -> dict[str, Any]:
        """All that the bytes of the parts depend on, as JSON; ``kind`` says what they are."""

    @property
    def stages(self) -> Sequence[Sequence[Part]]:
        """The parts; those of a stage need all parts of the stages before."""

    def working(self) -> AbstractContextManager[object]:
        """What a process holds while it makes parts, such as its number of threads."""

    def make(self, part: Part, folder: Path, report: Report) -> Mapping[str, Content]:
        """The files of a part by name; those in ``WORK`` are only for later stages."""


def parts_of(kind: str, size: int, rows: int) -> list[Part]:
    r"""The parts of ``size`` rows, ``rows`` in each but the last.

    Raises:
        ValueError: If ``rows`` is not a positive integer, or ``size`` a negative one.

    Example:
        >>> [tuple(part) for part in parts_of("users", 5, 3)]
        [('users-00000.parquet', 0, 3), ('users-00001.parquet', 3, 5)]
    """
    require_count(rows=rows)
    require_count(0, size=size)
    starts = range(0, size, rows)
    return [
        Part(f"{kind}-{number:05d}.parquet", start, min(start + rows, size))
        for number, start in enumerate(starts)
    ]
