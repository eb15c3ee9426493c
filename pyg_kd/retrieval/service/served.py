"""A bundle that is being served, with all that happened since it was made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.service.event_log import Click, Named, Record, Stock, Tail


class Served:
    """An index, and the digest by which answers name it. One thread at a time changes it.

    Args:
        index: The index.
        digest: The digest of its bundle; of an index without one, a number of this process.
        tail: The log that the index follows, if there is one.
    """

    def __init__(
        self, index: TopKIndex, digest: str | None = None, tail: Tail | None = None
    ) -> None:
        self.index, self.tail = index, tail
        told: Any = digest or index.info.get("sha256")
        self.digest: str = told or hashlib.sha256(f"{os.getpid()} {id(index)}".encode()).hexdigest()
        #: Users whose vectors were folded in since, by their ids.
        self.folded: set[int | str] = set()
        #: Records that were read; those that this bundle has no use for are among them.
        self.followed = 0
        #: Records that were damaged, and therefore passed over.
        self.damaged = 0
        #: Whether another log was begun, so that the index holds what was in the one before too.
        self.moved = False

    def follow(self) -> None:
        r"""Take in what was added to the log. Ids that the bundle doesn't know are passed over.

        Where the log was moved away and another begun, that one is followed from now on.

        Raises:
            OSError: If the new log can't be read.
            NotALog: If another file has its name.
        """
        if self.tail is None:
            return
        replaced = self.tail.replaced()
        self._read(self.tail)  # to its end, which is known by now
        if replaced:
            with suppress(FileNotFoundError):  # it is not begun yet, or its folder is away
                self.tail, self.moved = Tail(self.tail.path), True
                self._read(self.tail)

    def _read(self, tail: Tail) -> None:
        before = tail.damaged
        try:
            for records in tail.read():
                self.followed += len(records)
                self._apply(records)
        finally:
            self.damaged += tail.damaged - before

    def _apply(self, records: Sequence[Record]) -> None:
        """Take in records: the clicks of a user together, of everything else what came last."""
        clicks: dict[int | str, list[int | str]] = {}
        stock: dict[int | str, bool] = {}
        for record in records:
            if isinstance(record, Click):
                clicks.setdefault(record.user, []).extend(record.items)
            elif isinstance(record, Stock):
                stock |= dict.fromkeys(record.items, record.available)
            elif isinstance(record, Named):
                self.index.add_filter(record.name, record.items)
        for available in {*stock.values()}:
            rows = self.index.items.find([id for id, told in stock.items() if told is available])
            self.index.sets.set_available(rows[rows >= 0], available)
        self._click(clicks)

    def _click(self, clicks: Mapping[int | str, Sequence[int | str]]) -> None:
        """Fold in what users did, all together: one by one took four times as long."""
        wanted = str if self.index.users.kind == "text" else int
        listed = [item for items in clicks.values() for item in items]
        known = iter((self.index.items.find(listed) >= 0).tolist())
        told: dict[int | str, list[int | str]] = {}
        for user, items in clicks.items():
            found = [item for item in items if next(known)]
            if found and type(user) is wanted:
                told[user] = found
        if told:
            self.index.add_interactions_of(told)
            self.folded |= told.keys()
