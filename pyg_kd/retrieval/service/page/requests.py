"""What the page asks. Ids are text in it: a number of JavaScript is exact up to 53 bits only."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pyg_kd.retrieval.service.requests import MAX_TEXT

#: Longest history and longest list of the page.
MAX_HISTORY, MAX_K = 100, 100

Id = Annotated[str, Meta(max_length=MAX_TEXT)]
History = Annotated[list[Id], Meta(max_length=MAX_HISTORY)]


class Lookup(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Asks for users or items to choose from."""

    #: What was typed so far.
    q: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    #: Instead of that, a place from 0 to 1 in the table of users.
    draw: Annotated[float, Meta(ge=0, lt=1)] | UnsetType = UNSET


class Whom(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A user, or somebody with a history: one of the two."""

    user: Id | UnsetType = UNSET
    items: History | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.user is UNSET) == (self.items is UNSET):
            raise ValueError("one of 'user' and 'items' must be given")


class Lists(Whom, frozen=True, kw_only=True):
    """Asks for the lists of both models."""

    k: Annotated[int, Meta(ge=1, le=MAX_K)] = 10


class Explain(Whom, frozen=True, kw_only=True, rename={"side": "from"}):
    """Asks why an item is in a list."""

    item: Id
    #: In whose list it is: that model's vectors are compared.
    side: Literal["student", "teacher"] = "student"
