"""What clients send, read from JSON with every field checked.

A body is read strictly: no other fields, no field twice, no fraction where an integer is wanted,
integers of 64 bits, valid Unicode, nothing nested deeper than lists of ids.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pyg_kd.retrieval.service.refused import Refused

#: Longest list, history, other list of ids, list of names, and id or name of text.
MAX_K, MAX_HISTORY, MAX_IDS, MAX_NAMES, MAX_TEXT = 1000, 1000, 10_000, 16, 256

Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[str, Meta(max_length=MAX_TEXT)]
Ids = Annotated[list[Id], Meta(max_length=MAX_IDS)]
SomeIds = Annotated[list[Id], Meta(min_length=1, max_length=MAX_IDS)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]

T = TypeVar("T")


class Recommend(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Asks for the best items of a user, or of somebody with a history: one of the two."""

    #: Original id of a user. One that is unknown gets popular items.
    user: Id | UnsetType = UNSET
    #: Original ids of items. Unknown ones are left out, and counted in the answer.
    history: Annotated[list[Id], Meta(max_length=MAX_HISTORY)] | UnsetType = UNSET
    #: Length of the list.
    k: Annotated[int, Meta(ge=1, le=MAX_K)] = 20
    #: Items that must not be listed.
    exclude: Ids = []
    #: The only items that may be listed.
    candidates: Ids | UnsetType = UNSET
    #: Names of sets of items, all of which must hold an item.
    filters: Annotated[list[Name], Meta(max_length=MAX_NAMES)] = []
    #: Leave out what the user has seen, or the history.
    exclude_seen: bool = True

    def __post_init__(self) -> None:
        if (self.user is UNSET) == (self.history is UNSET):
            raise ValueError("one of 'user' and 'history' must be given")


class Event(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Tells what a user did, who may be new: an item, or several."""

    user: Id
    item: Id | UnsetType = UNSET
    items: SomeIds | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.item is UNSET) == (self.items is UNSET):
            raise ValueError("one of 'item' and 'items' must be given")

    def clicked(self) -> list[int | str]:
        """The items, one or several."""
        if self.items is not UNSET:
            return self.items
        return [] if self.item is UNSET else [self.item]


class Filter(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Names a set of items, or replaces the one of that name."""

    name: Name
    items: Ids


class Items(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Names some items."""

    items: Ids


def read(body: bytes, kind: type[T]) -> T:
    r"""A request from its JSON.

    Args:
        body: The JSON.
        kind: :class:`Recommend`, or another request.

    Raises:
        Refused: With status 400 if the body is no JSON, or 422 if it is not of this kind.

    Example:
        >>> read(b'{"user": 7, "k": 3}', Recommend).k
        3
    """
    try:
        found = msgspec.json.decode(body, type=kind)
        json.loads(body, object_pairs_hook=_distinct)  # a second field of one name would win
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON ({_wrong(body, error)})"[:MAX_TEXT]) from None
    return found


def _wrong(body: bytes, error: Exception) -> str:
    """What is wrong with JSON: msgspec takes half of a surrogate pair at the end for a cut."""
    if "truncated" in str(error):
        with suppress(ValueError, RecursionError):
            json.loads(body)
            return "a string is no valid Unicode: it has half of a surrogate pair"
    return str(error)


_PLACE = re.compile(r"^(?P<error>.*?)(?: - at `\$\.?(?P<field>\w*).*`)?$", re.DOTALL)
_QUOTED = re.compile(r"field `(\w+)`|'(\w+)'")


def _explained(message: str) -> Refused:
    """The refusal that a message of msgspec stands for."""
    place = _PLACE.match(message)
    error, field = (place["error"], place["field"]) if place else (message, None)
    quoted = _QUOTED.search(error)
    if not field and quoted:
        field = quoted[1] or quoted[2]
    return Refused(422, error[:MAX_TEXT], field[:MAX_TEXT] if field else None)


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a field is given twice")
