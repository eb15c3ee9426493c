"""Answering a batch of requests from one bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from pyg_kd.retrieval.ids import Ids
from pyg_kd.retrieval.item_sets import Mask
from pyg_kd.retrieval.seen import Pattern, pattern_of
from pyg_kd.retrieval.service.answers import Item, Recommendations, Source, encode
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.requests import Recommend
from pyg_kd.retrieval.service.served import Served
from pyg_kd.retrieval.tables import Float32

Rows = npt.NDArray[Any]
NONE = np.empty(0, np.int64)

#: Lists longer than this are ranked apart: a batch costs as much as its longest list.
LONG = 100

#: The JSON of an answer, or why there is none.
Result = bytes | Refused


def recommend(served: Served, asked: Sequence[Recommend]) -> list[Result]:
    r"""Answer some requests together: one product with the item table for all that allow it.

    Args:
        served: The bundle that all answers are from.
        asked: The requests.

    Returns:
        The answer of each, or why there is none.
    """
    results: dict[int, Result] = {}
    together: dict[bool, list[int]] = {}
    for place, ask in enumerate(asked):
        try:
            check_ids(ask, served)
            if ask.candidates is UNSET and not ask.filters:
                together.setdefault(ask.k > LONG, []).append(place)
            else:
                results[place] = _Batch(served, [ask], _allowed(served, ask)).results()[0]
        except Refused as refused:
            results[place] = refused
    for places in together.values():
        batch = _Batch(served, [asked[place] for place in places], served.index.allowed())
        results |= zip(places, batch.results(), strict=True)
    return [results[place] for place in range(len(asked))]


def check_ids(ask: Recommend, served: Served) -> None:
    """Raise ``Refused`` where an id is a number and the bundle has strings, or the reverse."""
    if ask.user is not UNSET:
        check_kind([ask.user], served.index.users, "user")
    for field in ("history", "exclude", "candidates"):
        if ids := getattr(ask, field):
            check_kind(ids, served.index.items, field)


def check_kind(ids: Sequence[object], known: Ids, field: str) -> None:
    """Raise ``Refused`` unless all ids are of the kind of the known ones."""
    wanted, called = (str, "strings") if known.kind == "text" else (int, "integers")
    if any(type(value) is not wanted for value in ids):
        raise Refused(422, f"ids of {known.name}s are {called} in this bundle", field)


def _allowed(served: Served, ask: Recommend) -> Mask | None:
    candidates = None if ask.candidates is UNSET else ask.candidates
    try:
        return served.index.allowed(candidates=candidates, filters=ask.filters)
    except ValueError as error:  # no set has that name
        raise Refused(422, str(error), "filters") from None


class _Batch:
    """Requests that may get the same items, but for those that each excludes."""

    def __init__(self, served: Served, asked: Sequence[Recommend], allowed: Mask | None) -> None:
        self.served, self.index, self.asked, self.allowed = served, served.index, asked, allowed
        self.queries = np.zeros((len(asked), self.index.dim), np.float32)
        self.history: list[Rows] = [NONE] * len(asked)
        self.popular = np.zeros(len(asked), bool)
        self.unknown = [0] * len(asked)
        self._users([p for p, ask in enumerate(asked) if ask.user is not UNSET])
        self._histories([p for p, ask in enumerate(asked) if ask.user is UNSET])

    def _users(self, places: list[int]) -> None:
        if not places:
            return
        rows = self.index.newcomers.find([self.asked[place].user for place in places])
        self.queries[places] = self.index.vectors_of(rows)
        seen = self.index.seen.of(rows)
        for n, place in enumerate(places):
            self.history[place] = seen.col[seen.ptr[n] : seen.ptr[n + 1]]
            empty = self.index.has_seen and not len(self.history[place])
            self.popular[place] = rows[n] < 0 or empty

    def _histories(self, places: list[int]) -> None:
        if not places:
            return
        for place in places:
            rows = self.index.items.find(self.asked[place].history)
            self.unknown[place] = int((rows < 0).sum())
            self.history[place] = np.unique(rows[rows >= 0])
            self.popular[place] = not len(self.history[place])
        folded = pattern_of([self.history[place] for place in places])
        self.queries[places] = self.index.fold_in(folded.ptr, folded.col)

    def results(self) -> list[Result]:
        if self.popular.any() and self.index.popularity is None:
            pairs = zip(self.asked, self.popular, strict=True)
            return [self._nobody(ask) if none else self._alone(ask) for ask, none in pairs]
        return self._best()

    def _alone(self, ask: Recommend) -> Result:
        return _Batch(self.served, [ask], self.allowed).results()[0]

    def _nobody(self, ask: Recommend) -> Refused:
        field = "history" if ask.user is UNSET else "user"
        return Refused(404, f"{field!r} is unknown, and the bundle has no popular items", field)

    def _best(self) -> list[Result]:
        """The longest lists, of which everyone takes a beginning, since the order is total."""
        k = max(ask.k for ask in self.asked)
        rows, scores = self.index.rank(
            self.queries, k, hidden=self._hidden(), allowed=self.allowed, popular=self.popular
        )
        ids, values = self.index.items.take(rows), scores
        lengths = (rows >= 0).sum(1).tolist()
        return [
            self._answer(place, ids[place], values[place], min(lengths[place], ask.k))
            for place, ask in enumerate(self.asked)
        ]

    def _hidden(self) -> Pattern:
        return pattern_of([self._excluded(place) for place in range(len(self.asked))])

    def _excluded(self, place: int) -> Rows:
        ask = self.asked[place]
        rows = self.history[place] if ask.exclude_seen else NONE
        if not ask.exclude:
            return rows
        excluded = self.index.items.find(ask.exclude)
        return np.concatenate([rows, excluded[excluded >= 0]])

    def _answer(self, place: int, ids: Rows, scores: Float32, length: int) -> bytes:
        pairs = zip(ids[:length].tolist(), scores[:length].tolist(), strict=True)
        return encode(
            Recommendations(
                items=[Item(id, score) for id, score in pairs],
                source=self._source(place),
                bundle=self.served.digest,
                unknown=self.unknown[place],
            )
        )

    def _source(self, place: int) -> Source:
        if self.popular[place]:
            return "popular"
        user = self.asked[place].user
        return "folded" if user is UNSET or user in self.served.folded else "model"
