r"""The manifest of a bundle: what it holds, where that came from, and digests of every file.

A bundle is a folder: ``manifest.json`` and the files that it names. The manifest is one JSON
object, indented by one space, with these fields in this order, all of them always there:

=================  ================================================================================
``format``         ``"pyg_kd.bundle"``
``version``        Version of the format, 1. Newer ones are refused.
``name``           What the bundle is called, a string.
``created``        When it was written, UTC, ``"2026-01-31T12:00:00Z"``.
``tables``         ``{"user": {...}, "item": {...}}``: ``rows``, ``dim``, ``dtype`` (``"float32"``,
                   ``"float16"``, ``"int8"``, ``"int4"``) and ``bytes`` of each table.
``ids``            ``{"user": kind, "item": kind}``: ``"position"`` (ids are rows), ``"integer"`` or
                   ``"text"``.
``interactions``   How many seen items are stored, or null if none are known.
``fold_in``        How vectors of new users are computed, or null: ``kind``, ``settings``, the names
                   of its ``arrays``, and the ``report`` of the fit.
``model``          ``class``, ``repr`` and ``fingerprint`` of the student, or null.
``graph``          ``{"fingerprint": ...}`` of the training graph, or null.
``teacher``        ``{"fingerprint": ..., ...}``, or null; whatever else was told of it.
``metrics``        Numbers told when it was saved, by name.
``precision``      For tables below float32 what that costs, or null: ``compared_with``, ``users``,
                   ``k``, ``overlap`` (the share of the float32 lists that is kept) and ``recall``
                   (by dtype, on validation items), or null.
``versions``       Versions of ``python``, ``pyg_kd``, ``numpy`` and, for a model, ``torch``.
``files``          By part: ``file``, ``sha256`` and ``bytes``. Parts are ``users``, ``items`` and,
                   where there are any, ``user_ids``, ``item_ids``, ``seen``, ``popularity`` and
                   ``fold_in``. A name is ``<part>-<first 16 digits of sha256>.safetensors``.
``sha256``         SHA-256 of the manifest as written, without this field.
=================  ================================================================================

:attr:`TopKIndex.info <pyg_kd.retrieval.TopKIndex>` of a loaded bundle is this object as a ``dict``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from pyg_kd.checks import is_number
from pyg_kd.retrieval.ids import ARRAYS
from pyg_kd.retrieval.tables import DTYPES

FORMAT = "pyg_kd.bundle"
VERSION = 1

#: The manifest's own name.
MANIFEST = "manifest.json"

#: Parts that a bundle may have, each in a file of its own.
PARTS = ("users", "items", "user_ids", "item_ids", "seen", "popularity", "fold_in")

#: Names of files, complete.
FILE = re.compile(rf"({'|'.join(PARTS)})-([0-9a-f]{{16}})\.safetensors")
DIGEST = re.compile("[0-9a-f]{64}")

#: A manifest takes some thousand bytes; a larger file is not read.
LARGEST = 1 << 24

#: Counts stay below this.
MOST = 1 << 48


class BundleError(ValueError):
    """A bundle that is missing, damaged, of another format, or not a bundle at all."""

    def __init__(self, path: object, reason: object) -> None:
        self.path, self.reason = str(path), str(reason)
        super().__init__(self.path, self.reason)

    def __str__(self) -> str:
        return f"{self.path!r}: {self.reason}"


def file_name(part: str, sha256: str) -> str:
    """The name of a file with that digest.

    Example:
        >>> file_name("items", "0123456789abcdef" * 4)
        'items-0123456789abcdef.safetensors'
    """
    return f"{part}-{sha256[:16]}.safetensors"


def to_bytes(fields: dict[str, Any]) -> bytes:
    r"""A manifest as it is written, with its digest as the last field.

    Args:
        fields: All fields but ``format``, ``version`` and ``sha256``.

    Raises:
        TypeError: If a value is nothing that JSON has.
        ValueError: If a number is not finite, or a field is missing, unknown, or absurd.
    """
    told = {"format": FORMAT, "version": VERSION, **fields}
    told = {name: told.pop(name) for name in FIELDS if name in told} | told
    told["sha256"] = hashlib.sha256(_written(told)).hexdigest()
    check_fields(told)
    return _written(told)


def from_bytes(data: bytes) -> dict[str, Any]:
    r"""The fields of a manifest, all checked.

    Args:
        data: What :func:`to_bytes` returned.

    Raises:
        ValueError: If it is no manifest, of a newer version, changed since it was written, or
            if fields are missing, unknown, or don't fit together.
    """
    try:
        told = json.loads(data.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"its manifest is no JSON ({error})") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError(f"its manifest does not have the format {FORMAT!r}")
    version = told.get("version")
    if type(version) is int and VERSION < version < MOST:
        raise ValueError(f"its format version is {version}, {VERSION} is known: update pyg_kd")
    digest = told.get("sha256")
    rest = {name: value for name, value in told.items() if name != "sha256"}
    try:
        changed = digest != hashlib.sha256(_written(rest)).hexdigest() or data != _written(told)
    except (ValueError, RecursionError):  # a number beyond floats, or nesting beyond Python's
        changed = True
    if changed:
        raise ValueError("its manifest was changed after it was written")
    check_fields(told)
    return told


def check_fields(told: dict[str, Any]) -> None:
    """Raise ``ValueError`` for the first field that is missing, unknown, or absurd."""
    if [*told] != [*FIELDS]:
        wrong = sorted(told.keys() ^ FIELDS.keys()) or "their order"
        raise ValueError(f"its manifest differs in its fields: {wrong}")
    for name, fits in FIELDS.items():
        if not fits(told[name]):
            raise ValueError(f"its manifest has an absurd {name!r} (got {told[name]!r:.80})")
    wanted = _expected_parts(told)
    if not wanted - {"popularity"} <= told["files"].keys() <= wanted:
        raise ValueError(f"its manifest names {sorted(told['files'])} (expected {sorted(wanted)})")
    if told["tables"]["user"]["dim"] != told["tables"]["item"]["dim"]:
        raise ValueError("its tables have different widths")


def _expected_parts(told: dict[str, Any]) -> set[str]:
    """The parts that fit the other fields; popularity and arrays to fold in are optional."""
    parts = {"users", "items", "popularity"}
    parts |= {f"{t}_ids" for t, kind in told["ids"].items() if kind != "position"}
    if told["interactions"] is not None:
        parts.add("seen")
    if told["fold_in"] is not None and told["fold_in"]["arrays"]:
        parts.add("fold_in")
    return parts


def _written(told: dict[str, Any]) -> bytes:
    return json.dumps(told, indent=1, allow_nan=False).encode() + b"\n"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < MOST


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1 << 16


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _of_both(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether there is one fitting value for users and one for items."""
    return lambda value: (
        isinstance(value, dict) and [*value] == ["user", "item"] and all(map(fits, value.values()))
    )


def _has(**wanted: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether an object has these fields, and values that fit."""
    return lambda value: (
        isinstance(value, dict)
        and [*value] == [*wanted]
        and all(fits(value[name]) for name, fits in wanted.items())
    )


def _is_table(value: Any) -> bool:
    counts = _has(rows=_is_count, dim=_is_count, dtype=_is_text, bytes=_is_count)
    return counts(value) and value["dim"] > 0 and value["dtype"] in DTYPES


def _are_files(value: object) -> bool:
    entry = _has(file=_is_text, sha256=_is_digest, bytes=_is_count)
    return isinstance(value, dict) and all(
        part in PARTS and entry(told) and told["file"] == file_name(part, told["sha256"])
        for part, told in value.items()
    )


#: All fields in their order, and what their values must be.
FIELDS: dict[str, Callable[[Any], bool]] = {
    "format": lambda value: value == FORMAT,
    "version": lambda value: type(value) is int and value == VERSION,
    "name": _is_text,
    "created": lambda value: (
        isinstance(value, str)
        and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value, re.ASCII) is not None
    ),
    "tables": _of_both(_is_table),
    "ids": _of_both(lambda value: isinstance(value, str) and value in ARRAYS),
    "interactions": _or_none(_is_count),
    "fold_in": _or_none(
        _has(
            kind=_is_text,
            settings=_is_object,
            arrays=lambda value: isinstance(value, list) and all(map(_is_text, value)),
            report=lambda value: True,
        )
    ),
    "model": _or_none(_has(**{"class": _is_text, "repr": _is_text, "fingerprint": _is_digest})),
    "graph": _or_none(_has(fingerprint=_is_digest)),
    "teacher": _or_none(_is_object),
    "metrics": lambda value: isinstance(value, dict) and all(map(is_number, value.values())),
    "precision": _or_none(_is_object),
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "files": _are_files,
    "sha256": _is_digest,
}
