"""What the service answers, as JSON."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Source = Literal["model", "folded", "popular"]


class Item(msgspec.Struct, frozen=True, gc=False):
    """An item of a list: its original id, and its score (of a popular item, its popularity)."""

    id: int | str
    score: float


class Recommendations(msgspec.Struct, frozen=True, kw_only=True):
    """The list of one request, best item first; shorter than ``k`` where no more are allowed."""

    items: list[Item]
    #: ``model``: from the user's trained vector; ``folded``: from the items of a history, or of
    #: a user who did something since; ``popular``: nothing is known of the user.
    source: Source
    #: The digest of the bundle that the whole answer is from.
    bundle: str
    #: How many ids of the history the bundle does not know.
    unknown: int = 0


class Noted(msgspec.Struct, frozen=True):
    """What was noted is on the disk, and in force for every request from now on."""

    noted: int
    #: How many of the ids the bundle that is served does not know; a later one may.
    unknown: int = 0


class Trouble(msgspec.Struct, frozen=True):
    """Why a request was refused, and the field that is to blame."""

    error: str
    field: str | None = None


class Health(msgspec.Struct, frozen=True):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Refusal(msgspec.Struct, frozen=True):
    """A bundle that was not taken, so that the one before it serves on."""

    reason: str
    time: str


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests should be sent here, and what would answer them."""

    ready: bool
    bundle: str
    num_users: int
    num_items: int
    refused: Refusal | None = None


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that is served after a call of ``/reload``."""

    bundle: str
    changed: bool
    #: How many worker processes serve it by now.
    workers: int = 1


_encoder = msgspec.json.Encoder()


def encode(answer: Any) -> bytes:
    """The JSON of an answer.

    Example:
        >>> encode(Noted(2))
        b'{"noted":2,"unknown":0}'
    """
    return _encoder.encode(answer)
