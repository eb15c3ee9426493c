"""How options are typed, and how mistakes in them are told."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pyg_kd.cli.console import one_line

#: The types of the options of a command, by name.
Types = Mapping[str, Any]

ANSWERS = ("true", "false", "yes", "no")

#: What jsonargparse says of a value of another type: the option, the trouble, and the value.
_WRONG = re.compile(r'Parser key "([\w.]+)":.*?(?:Given value|Got value|value): ?(.*)', re.DOTALL)
_UNKNOWN = re.compile(r"[Uu]nrecognized arguments?: (.*)", re.DOTALL)
_MISSING = re.compile(r"following arguments are required: (.*)", re.DOTALL)


def spelt(name: str) -> str:
    """An option as it is typed.

    Example:
        >>> spelt("batch_size")
        '--batch-size'
    """
    return "--" + name.replace("_", "-")


def normalized(words: Sequence[str], types: Types) -> list[str]:
    """Words as jsonargparse takes them: underscores, ``--x=false``, lists in brackets.

    Example:
        >>> types = {"baseline": bool, "k_core": int, "k": list[int]}
        >>> normalized(["--no-baseline", "--k-core", "5", "--k", "10,20"], types)
        ['--baseline=false', '--k_core', '5', '--k', '[10,20]']
    """
    out: list[str] = []
    for place, word in enumerate(words):
        name, value = _parted(word)
        before = _parted(words[place - 1]) if place else ("", None)
        following = words[place + 1] if place + 1 < len(words) else ""
        if name == "":
            wrap = is_list(types.get(before[0])) and before[1] is None
            out.append(_bracketed(word) if wrap else word)
        elif types.get(name.removeprefix("no_")) is bool and name not in types and value is None:
            out.append(f"--{name.removeprefix('no_')}=false")
        elif types.get(name) is bool and value is None and following.lower() not in ANSWERS:
            out.append(f"--{name}=true")
        elif value is None:
            out.append(f"--{name}")
        else:
            out.append(f"--{name}={_bracketed(value) if is_list(types.get(name)) else value}")
    return out


def explained(error: Exception, types: Types, places: Collection[str] = ()) -> str:
    """What jsonargparse says about a mistake, in one line and in this package's words.

    Args:
        error: The mistake.
        types: The options of the command.
        places: Those that are given by their place, without a name.

    Example:
        >>> wrong = ValueError("Unrecognized arguments: --path x.csv")
        >>> explained(wrong, {"path": str, "out": str}, ["path"])
        'there is no option --path: PATH is given without one'
    """
    text = str(error)
    if found := _WRONG.search(text):
        name, value = found[1], one_line(found[2])
        if name in types:
            shown = name.upper() if name in places else spelt(name)
            return f"{shown} must be {in_words(types[name])} (got {value!r})"
    if found := _MISSING.search(text):
        names = [name.strip() for name in found[1].split(",")]
        told = [name.upper() if name in places else spelt(name) for name in names]
        return f"{' and '.join(told)} must be given"
    if found := _UNKNOWN.search(text):
        word = (found[1].split() or [""])[0]
        if not word.startswith("--"):
            return f"{word!r} belongs to no option"
        near = get_close_matches(_parted(word)[0], list(types), 1)
        hint = f", did you mean {spelt(near[0])}?" if near else ""
        if near and near[0] in places:
            hint = f": {near[0].upper()} is given without one"
        return f"there is no option {word.replace('_', '-')}{hint}"
    return one_line(text).removeprefix('Parser key "config": ')


def in_words(kind: Any) -> str:
    """A type, in words.

    Example:
        >>> in_words(int | None), in_words(Literal["a", "b"])
        ('an integer or null', 'a or b')
    """
    plain = {
        int: "an integer",
        float: "a number",
        str: "text",
        bool: "true or false",
        NoneType: "null",
        Any: "anything",
    }
    if kind in plain:
        return plain[kind]
    inner, origin = get_args(kind), get_origin(kind)
    if origin is list:
        return f"a list like {'10,20' if inner == (int,) else 'a,b'}"
    if origin is dict:
        return "a mapping"
    if origin is Literal:
        return _joined([str(value) for value in inner])
    return _joined([in_words(value) for value in inner]) if inner else str(kind)


def is_list(kind: Any) -> bool:
    """Whether an option is a list of numbers or of words."""
    kinds = (kind, *get_args(kind))
    return any(get_origin(k) is list and get_args(k)[0] in (int, str) for k in kinds)


def _joined(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _bracketed(value: str) -> str:
    return value if value.startswith("[") else f"[{value}]"


def _parted(word: str) -> tuple[str, str | None]:
    """The name of an option, with underscores, and its value; an empty name for another word."""
    option, equals, value = word.partition("=")
    if not option.startswith("--") or option == "--":
        return "", None
    top, dot, rest = option[2:].partition(".")  # names below a dot are the user's own
    return top.replace("-", "_") + dot + rest, value if equals else None
