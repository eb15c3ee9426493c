"""Whose lists are wanted, in blocks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from pyg_kd.cli.options.recommend import Wanted
from pyg_kd.cli.pairs import as_ids, find, read_pairs
from pyg_kd.retrieval import TopKIndex, UnknownId

#: Users ranked, and ids decoded, at once.
AT_ONCE = 2048


class Block(NamedTuple):
    """Some users; for new users with the rows of their items."""

    users: list[Any]
    histories: list[Any] | None = None


class Source:
    """The users of a request, as often as they are read."""

    def __init__(self, wanted: Wanted, index: TopKIndex) -> None:
        self.wanted, self.index = wanted, index
        self.total, self.skipped = 0, 0

    @property
    def left(self) -> int:
        """How many users get a list."""
        return self.total - self.skipped * (self.wanted.unknown == "skip")

    @property
    def text_users(self) -> bool:
        """Whether their ids are text."""
        return self.index.users.kind == "text"

    def check(self) -> None:
        r"""Count the users, and look for unknown ones.

        Raises:
            ValueError: If there are unknown ones and they are errors.
        """
        raise NotImplementedError

    def blocks(self, size: int) -> Iterator[Block]:
        """The users in blocks of ``size``, those that are skipped left out."""
        raise NotImplementedError


class AllUsers(Source):
    """All users of the index, in its order."""

    def check(self) -> None:
        """Count them."""
        self.total = self.index.num_users

    def blocks(self, size: int) -> Iterator[Block]:
        """Their ids, a few decoded at a time."""
        for start in range(0, self.total, size):
            users: list[Any] = []
            for at in range(start, min(start + size, self.total), AT_ONCE):
                rows = np.arange(at, min(at + AT_ONCE, start + size, self.total))
                users += self.index.users.take(rows).tolist()
            yield Block(users)


class SomeUsers(Source):
    """The users of a file."""

    def check(self) -> None:
        """Read the file once, before any work is done; what is streamed can be read only once."""
        if not self.streamed:
            for lines in _batches(read_lines(str(self.wanted.users)), AT_ONCE):
                self._count(lines)

    @property
    def streamed(self) -> bool:
        """Whether the users come from standard input or a pipe."""
        return is_streamed(self.wanted.users)

    def _count(self, lines: list[str]) -> None:
        missing = np.flatnonzero(find(lines, self.index.users) < 0)
        if len(missing) and self.wanted.unknown == "error":
            self._complain("known", lines, int(missing[0]), ": --unknown skip or popular goes on")
        made = as_ids(lines, self.index.users)
        if self.wanted.unknown == "popular" and None in made:
            self._complain("integer", lines, made.index(None), ", as all users are")
        self.total += len(lines)
        self.skipped += len(missing)

    def _complain(self, what: str, lines: list[str], place: int, hint: str) -> NoReturn:
        source = "standard input" if self.wanted.users == "-" else f"'{self.wanted.users}'"
        raise UnknownId(
            f"user {self.total + place + 1} of {source} must be {what} (got {lines[place]!r}){hint}"
        )

    def blocks(self, size: int) -> Iterator[Block]:
        """The ids in the file, as the index has them."""
        streamed = self.streamed
        for lines in _batches(read_lines(str(self.wanted.users)), size):
            if streamed:
                self._count(lines)
            if self.wanted.unknown == "skip":
                rows = find(lines, self.index.users)
                lines = [line for line, row in zip(lines, rows.tolist(), strict=True) if row >= 0]
            yield Block(as_ids(lines, self.index.users))


class NewUsers(Source):
    """The users of a file of interactions, in the order in which they come."""

    def check(self) -> None:
        """Read the file."""
        wanted, index = self.wanted, self.index
        path = Path(str(wanted.history))
        pairs = list(read_pairs(path, wanted.user, wanted.item, whole_users=True))
        rows = find([item for _, item in pairs], index.items)
        missing = np.flatnonzero(rows < 0)
        if len(missing) and wanted.unknown == "error":
            raise UnknownId(
                f"'{wanted.history}' has an unknown item ({pairs[int(missing[0])][1]!r}): "
                "--unknown skip or popular goes on"
            )
        self.histories: dict[str, list[int]] = {}
        for (user, _), row in zip(pairs, rows.tolist(), strict=True):
            self.histories.setdefault(str(user), []).extend([row] if row >= 0 else [])
        made = as_ids(list(self.histories), index.users)
        # New users may be of another kind than those that are known.
        self.integers = None if index.users.kind == "text" or None in made else made
        self.total = len(self.histories)
        self.skipped = sum(not rows for rows in self.histories.values())

    def blocks(self, size: int) -> Iterator[Block]:
        """Their ids and their items."""
        users = list(self.histories) if self.integers is None else self.integers
        entries = zip(users, self.histories.values(), strict=True)
        for batch in _batches(entries, size):
            kept = [entry for entry in batch if entry[1] or self.wanted.unknown != "skip"]
            items = [self.index.items.take(np.array(rows, np.int64)) for _, rows in kept]
            yield Block([user for user, _ in kept], items)

    @property
    def text_users(self) -> bool:
        """Whether their ids are text."""
        return self.integers is None


def source_of(wanted: Wanted, index: TopKIndex) -> Source:
    r"""Whose lists are wanted.

    Raises:
        ValueError: If users and histories are given.
    """
    if wanted.users is not None and wanted.history is not None:
        raise ValueError("'users' and 'history' cannot both be given")
    if wanted.history is not None:
        return NewUsers(wanted, index)
    return AllUsers(wanted, index) if wanted.users is None else SomeUsers(wanted, index)


def is_streamed(path: str | None) -> bool:
    """Whether a file can be read only once: standard input, as ``-``, or a pipe, as of a shell."""
    if path in (None, "-", os.devnull):  # the last is as empty the next time
        return path == "-"
    found = Path(str(path)).expanduser()
    return found.exists() and not found.is_file() and not found.is_dir()


def read_lines(path: str) -> Iterator[str]:
    """The lines of a text file, or of standard input for ``-``; empty ones are left out."""
    try:
        if path == "-":
            yield from _stripped(sys.stdin)
        else:
            with Path(path).expanduser().open(encoding="utf-8-sig") as file:
                yield from _stripped(file)
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' must be text in UTF-8 ({error})") from error


def _stripped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if text := line.strip("\r\n"):
            yield text


def _batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch
