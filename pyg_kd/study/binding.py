"""Dataclasses from mappings, with mistakes told by their place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

WORDS = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    NoneType: "nothing",
}


def bound(kind: Any, given: object, place: str) -> Any:
    r"""Make a dataclass of a mapping, and of the mappings in it.

    Args:
        kind: The dataclass.
        given: The mapping.
        place: Where it stands, for messages.

    Raises:
        ValueError: If a name is unknown or missing, or a value is of another type.

    Example:
        >>> from pyg_kd.study.schema import Budget
        >>> bound(Budget, {"trails": 3}, "budget")
        Traceback (most recent call last):
        ValueError: budget: there is no 'trails', did you mean 'trials'?
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{place or 'the configuration'} must be a mapping (got {given!r:.80})")
    known = {f.name: f for f in fields(kind)}
    for name in given:
        if name not in known:
            raise ValueError(f"{_at(place)}there is no {name!r}{nearest(str(name), known)}")
    for name, one in known.items():
        if name not in given and not _optional(one):
            raise ValueError(f"{_at(place)}{name!r} must be given")
    hints = get_type_hints(kind)
    return kind(**{n: _value(v, hints[n], f"{place}.{n}".strip(".")) for n, v in given.items()})


def nearest(name: str, known: Collection[object]) -> str:
    """What may have been meant, as the end of a message."""
    near = get_close_matches(name, [str(one) for one in known], 1)
    return f", did you mean {near[0]!r}?" if near else f": one of {', '.join(map(str, known))}"


def _value(value: Any, kind: Any, place: str) -> Any:
    """A value of a type: dataclasses made, everything else as it is."""
    if kind is Any:
        return value
    if isinstance(kind, UnionType):
        for part in get_args(kind):
            if _is(value, part):
                return _value(value, part, place)
        raise _wrong(value, kind, place)
    if is_dataclass(kind):
        return bound(kind, value, place)
    if not _is(value, kind):
        raise _wrong(value, kind, place)
    inner = get_args(kind)
    if get_origin(kind) is list:
        return [_value(v, inner[0], f"{place}.{n}") for n, v in enumerate(value)]
    if get_origin(kind) is dict:
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{place}: a name must be text (got {key!r})")
        return {key: _value(v, inner[1], f"{place}.{key}") for key, v in value.items()}
    return float(value) if kind is float else value


def _is(value: object, kind: Any) -> bool:
    if kind is Any:
        return True
    if isinstance(kind, UnionType):
        return any(_is(value, part) for part in get_args(kind))
    if is_dataclass(kind):
        return isinstance(value, Mapping)
    if kind in (int, float):
        allowed = int if kind is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, get_origin(kind) or kind)


def _wrong(value: object, kind: Any, place: str) -> ValueError:
    parts = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    words = [WORDS.get(get_origin(p) or p, getattr(p, "__name__", str(p))) for p in parts]
    return ValueError(f"{place} must be {' or '.join(words)} (got {value!r:.80})")


def _optional(one: Field[Any]) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def _at(place: str) -> str:
    return f"{place}: " if place else ""
