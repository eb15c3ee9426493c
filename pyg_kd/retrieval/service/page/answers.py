"""What the page is answered: plain objects for JSON, with ids as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from pyg_kd.retrieval.ids import UnknownId
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.service.page.catalogue import SUGGESTED, Catalogue
from pyg_kd.retrieval.service.page.compare import Ranked, Wish, overlap, ranked
from pyg_kd.retrieval.service.page.explain import Neighbourhood, neighbourhood
from pyg_kd.retrieval.service.page.layout import ASPECT, place
from pyg_kd.retrieval.service.page.lookup import parse_id, row_of, starting_with, texts
from pyg_kd.retrieval.service.page.requests import Explain, Lists, Lookup, Whom
from pyg_kd.retrieval.service.refused import Refused

Rows = npt.NDArray[Any]
Json = dict[str, Any]

#: Items of a user that are shown, and users looked through for one to begin with.
SHOWN, FIRST = 40, 1000


class Models(NamedTuple):
    """What is compared at one moment.

    Args:
        student: The index that is served.
        teacher: An index of its teacher, on the same data.
        names: Titles of items by their original ids, where there are any.
    """

    student: TopKIndex
    teacher: TopKIndex | None = None
    names: Mapping[Any, str] | None = None


class Answers:
    """The answers for one student and teacher.

    Args:
        models: The models.
        catalogue: The student's items.
    """

    def __init__(self, models: Models, catalogue: Catalogue) -> None:
        self.student, self.teacher, _ = models
        self.count, self.titles = catalogue.count, catalogue.titles
        self.popular = catalogue.popular

    def about(self) -> Json:
        """Sizes of both models, and a user to begin with."""
        degree = np.diff(self.student.seen.pattern.ptr[: FIRST + 1])
        user = texts(self.student.users, np.flatnonzero(degree)[:1])
        return {
            "student": _about(self.student),
            "teacher": None if self.teacher is None else _about(self.teacher),
            "first_user": user[0] if user else None,
        }

    def users(self, ask: Lookup) -> Json:
        """Users whose ids begin with what was typed, or one drawn user."""
        index = self.student
        if ask.draw is UNSET:
            rows = starting_with(index.users, ask.q, SUGGESTED)
        else:
            rows = [int(ask.draw * index.num_users)][: index.num_users]
        found = zip(texts(index.users, np.array(rows, np.int64)), rows, strict=True)
        return {"found": [{"id": id, "count": len(index.seen.history(row))} for id, row in found]}

    def items(self, ask: Lookup) -> Json:
        """Items whose id or title has what was typed; popular ones while nothing is."""
        if not ask.q:
            return {"found": self._described(self.popular)}
        whole = row_of(self.student.items, ask.q)
        rows = [whole] if whole >= 0 else []
        if self.titles:
            rows += self.titles.search(ask.q, SUGGESTED)
        rows += starting_with(self.student.items, ask.q, SUGGESTED)
        return {"found": self._described([*dict.fromkeys(rows)][:SUGGESTED])}

    def lists(self, ask: Lists) -> Json:
        """Both lists and what they share, and the items seen before."""
        history, wish = self._history(ask), self._wish(ask)
        student = ranked(self.student, wish, ask.k)
        known = {"items": self._described(history[:SHOWN].tolist()), "count": len(history)}
        popular = not len(history) and (wish.is_history or self.student.has_seen)
        answer: Json = {"student": self._list(student), "known": known, "popular": popular}
        if self.teacher is None:
            return answer
        try:
            teacher = ranked(self.teacher, self._of_teacher(self.teacher, wish, history), ask.k)
        except ValueError as error:  # it was made from other data
            problem = f"The teacher has no list: {error}."
            return {**answer, "teacher": {"items": [], "problem": problem}}
        both, of = overlap(student.items, teacher.items)
        return {**answer, "teacher": self._list(teacher), "overlap": {"count": both, "of": of}}

    def _of_teacher(self, teacher: TopKIndex, wish: Wish, history: Rows) -> Wish:
        """The same wish for a teacher, who does not know what was clicked since."""
        if wish.is_history:
            return wish
        ids = self.student.items.take(history)
        known = teacher.items.find(ids)
        row = int(teacher.newcomers.find([wish.user])[0])
        if row >= 0:
            new = ~np.isin(known, teacher.seen.history(row))
            return Wish(user=wish.user, exclude=tuple(ids[new].tolist()))
        if (known >= 0).any():
            return Wish(items=tuple(ids[known >= 0].tolist()))
        raise UnknownId("it knows neither the user nor the items seen before")

    def explain(self, ask: Explain) -> Json:
        """What connects an item with the history, with places to draw it."""
        index = self.student if ask.side == "student" else self.teacher
        if index is None:
            raise Refused(404, "there is no teacher", "from")
        item = row_of(index.items, ask.item)
        if item < 0:
            raise Refused(404, f"the {ask.side} does not know this item", "item")
        history = index.items.find(self.student.items.take(self._history(ask)))
        history = history[history >= 0]
        user = -1 if ask.user is UNSET else row_of(index.users, ask.user)
        found = neighbourhood(index, item, history, user=user)
        about_item = self._called(index, [item])[0]
        return {"item": about_item, "history": len(history), **self._around(index, found)}

    def _around(self, index: TopKIndex, found: Neighbourhood) -> Json:
        similar = self._called(index, found.similar.tolist())
        numbers = zip(found.cosine.tolist(), found.both.tolist(), strict=True)
        for one, (cosine, both) in zip(similar, numbers, strict=True):
            one.update(cosine=cosine, both=both)
        owned = zip(texts(index.users, found.users), found.shared, strict=True)
        users = [{"id": id, "shared": np.flatnonzero(shared).tolist()} for id, shared in owned]
        return {"similar": similar, "users": users, **_layout(found)}

    def _history(self, ask: Whom) -> Rows:
        """Rows of the items seen before, in the student's table."""
        if ask.user is not UNSET:
            row = int(self.student.newcomers.find([parse_id(self.student.users, ask.user)])[0])
            if row < 0:
                raise Refused(404, "there is no such user", "user")
            return self.student.seen.history(row)
        found = dict.fromkeys(row_of(self.student.items, item) for item in self._items(ask))
        if -1 in found:
            raise Refused(404, "there is no such item", "items")
        return np.array([*found], np.int64)

    def _wish(self, ask: Whom) -> Wish:
        if ask.user is not UNSET:
            return Wish(user=parse_id(self.student.users, ask.user))
        return Wish(items=tuple(parse_id(self.student.items, item) for item in self._items(ask)))

    @staticmethod
    def _items(ask: Whom) -> Sequence[str]:
        return () if ask.items is UNSET else ask.items

    def _list(self, found: Ranked) -> Json:
        return {"items": self._named(found.items), "milliseconds": found.milliseconds}

    def _called(self, index: TopKIndex, rows: list[int]) -> list[Json]:
        """Items of either index, by row."""
        return self._named(index.items.take(np.array(rows, np.int64)).tolist())

    def _named(self, ids: list[Any]) -> list[Json]:
        rows = self.student.items.find(ids).tolist()
        return [
            {"id": str(id), "title": self.titles[row] if self.titles and row >= 0 else str(id)}
            for id, row in zip(ids, rows, strict=True)
        ]

    def _described(self, rows: list[int]) -> list[Json]:
        """Items of the student with how often they were chosen."""
        named = self._called(self.student, rows)
        return [
            {**one, "count": int(self.count[row])} for one, row in zip(named, rows, strict=True)
        ]


#: The questions of the page, and what each reads.
QUESTIONS: dict[str, tuple[type[Any], Callable[[Answers, Any], Json]]] = {
    "users": (Lookup, Answers.users),
    "items": (Lookup, Answers.items),
    "lists": (Lists, Answers.lists),
    "explain": (Explain, Answers.explain),
}


def _about(index: TopKIndex) -> Json:
    metrics, model = (_told(index, key) for key in ("metrics", "model"))
    numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, Real)}
    return {
        "model": str(model.get("class", "")),
        "bytes": index.nbytes,
        "dim": index.dim,
        "dtype": index.dtype,
        "users": index.num_users,
        "items": index.num_items,
        "metrics": numbers,
    }


def _told(index: TopKIndex, key: str) -> Mapping[str, Any]:
    """What the manifest of a bundle tells; nothing of an index without one."""
    told = index.info.get(key)
    return told if isinstance(told, Mapping) else {}


def _layout(found: Neighbourhood) -> Json:
    """Places of the owner, the item, the similar items and the users: nodes in this order."""
    s, n = len(found.similar), len(found.users)
    edges = [(0, 2 + at, 1.0) for at in range(s)]
    edges += [
        (1, 2 + at, 0.2 + max(cosine, 0.0)) for at, cosine in enumerate(found.cosine.tolist())
    ]
    edges += [(1, 2 + s + at, 0.5) for at in range(n)]
    edges += [(2 + at, 2 + s + user, 0.5) for user, at in np.argwhere(found.shared).tolist()]
    groups = range(2, 2 + s), range(2 + s, 2 + s + n)
    try:
        xy = place(2 + s + n, edges, groups, first=0, last=1).round(4).tolist()
    except ImportError:
        return {"layout": None, "note": "A drawing needs NetworkX, which the service lacks."}
    places = {"owner": xy[0], "item": xy[1], "similar": xy[2 : 2 + s], "users": xy[2 + s :]}
    return {"layout": {"aspect": ASPECT, **places}}
