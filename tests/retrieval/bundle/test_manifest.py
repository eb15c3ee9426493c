from __future__ import annotations

import copy
import hashlib
import json
import re
from typing import Any

import pytest

from pyg_kd.retrieval.bundle import manifest
from pyg_kd.retrieval.bundle.manifest import FIELDS, file_name, from_bytes, to_bytes

DIGEST = "0123456789abcdef" * 4


def entry(part: str, size: int = 100) -> dict[str, Any]:
    return {"file": file_name(part, DIGEST), "sha256": DIGEST, "bytes": size}


TABLE = {"rows": 3, "dim": 2, "dtype": "int8", "bytes": 12}

FOUND = {
    "name": "a student",
    "created": "2026-01-31T12:00:00Z",
    "tables": {"user": TABLE, "item": TABLE},
    "ids": {"user": "position", "item": "text"},
    "interactions": 5,
    "fold_in": {"kind": "ridge", "settings": {"alpha": 0.1}, "arrays": ["root"], "report": None},
    "model": {"class": "MF", "repr": "MF(2)", "fingerprint": DIGEST},
    "graph": {"fingerprint": DIGEST},
    "teacher": {"fingerprint": "a teacher of mine", "width": 200},
    "metrics": {"recall@20": 0.25},
    "precision": None,
    "versions": {"python": "3.11"},
    "files": {part: entry(part) for part in ("users", "items", "item_ids", "seen", "fold_in")},
}


def test_what_is_written_is_read():
    found = from_bytes(to_bytes(FOUND))
    assert {name: found[name] for name in FOUND} == FOUND
    assert [*found] == [*FIELDS] and found["version"] == 1


def test_the_order_of_the_fields_given_does_not_matter():
    assert to_bytes(dict(reversed(FOUND.items()))) == to_bytes(FOUND)


def test_the_digest_is_that_of_all_other_fields_as_written():
    data = to_bytes(FOUND)
    told = json.loads(data)
    sha256 = told.pop("sha256")
    rest = json.dumps(told, indent=1).encode() + b"\n"
    assert hashlib.sha256(rest).hexdigest() == sha256


def test_every_field_is_described():
    described = re.findall(r"^``(\w+)``", manifest.__doc__ or "", re.MULTILINE)
    assert described == [*FIELDS]


def test_every_flipped_bit_is_noticed():
    data = to_bytes(FOUND)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises(ValueError):
            from_bytes(bytes(damaged))


def test_every_truncation_is_noticed():
    data = to_bytes(FOUND)
    for size in range(len(data)):
        with pytest.raises(ValueError):
            from_bytes(data[:size])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b'{"a": ' * 100_000, "no JSON"),
        (b'{"format": NaN}', "no JSON .*NaN is no number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"[]", "does not have the format 'pyg_kd.bundle'"),
        (b"null", "does not have the format"),
        (b'{"name": "My app", "icons": []}', "does not have the format"),
        (b'{"format": "pyg_kd.bundle"}', "changed"),
        (b'{"format": "pyg_kd.bundle", "version": 1}', "changed"),
        (b'{"format": "pyg_kd.bundle", "version": 2}', "format version is 2, 1 is known: update"),
        (b'{"format": "pyg_kd.bundle", "version": 1, "a": 1e999}', "changed"),
        (b'{"format": "pyg_kd.bundle", "version": 1, "a": "\\ud800"}', "changed"),
    ],
)
def test_what_is_no_manifest(data, message):
    with pytest.raises(ValueError, match=message):
        from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b" ",
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b'"version": 1,', b'"version": 1, "version": 1,'),
        lambda data: data.replace(b"a student", b"\\u0061 student"),
        lambda data: data.replace(b'"rows": 3', b'"rows": 4'),
        lambda data: data.replace(b'"version": 1,', b'"version": 1.0,'),
        lambda data: json.dumps(json.loads(data)).encode(),
    ],
)
def test_another_way_to_write_it_is_a_change(change):
    with pytest.raises(ValueError, match="changed after it was written"):
        from_bytes(change(to_bytes(FOUND)))


def sealed(told: dict[str, Any]) -> bytes:
    """A manifest with a digest that fits, whatever it tells."""
    told = {"format": "pyg_kd.bundle", "version": 1, **told}
    rest = json.dumps(told, indent=1).encode() + b"\n"
    return json.dumps({**told, "sha256": hashlib.sha256(rest).hexdigest()}, indent=1).encode() + (
        b"\n"
    )


def test_sealed_is_what_is_written():
    assert sealed(FOUND) == to_bytes(FOUND)


ABSURD = [
    ("name", None),
    ("name", "x" * 70_000),
    ("created", "yesterday"),
    ("created", "2026-01-31T12:00:00Z\n"),
    ("created", "٢٠٢٦-01-31T12:00:00Z"),
    ("tables", {"user": TABLE}),
    ("tables", {"user": TABLE, "item": {**TABLE, "rows": -1}}),
    ("tables", {"user": TABLE, "item": {**TABLE, "rows": 2**60}}),
    ("tables", {"user": TABLE, "item": {**TABLE, "rows": True}}),
    ("tables", {"user": TABLE, "item": {**TABLE, "rows": 3.0}}),
    ("tables", {"user": TABLE, "item": {**TABLE, "dim": 0}}),
    ("tables", {"user": TABLE, "item": {**TABLE, "dtype": "int2"}}),
    ("tables", {"user": TABLE, "item": {**TABLE, "dtype": ["int8"]}}),
    ("tables", {"user": TABLE, "item": {**TABLE, "more": 1}}),
    ("tables", [TABLE, TABLE]),
    ("ids", {"user": "position", "item": "uuid"}),
    ("ids", {"user": "position", "item": ["text"]}),
    ("interactions", -1),
    ("fold_in", {"kind": "ridge"}),
    ("fold_in", {"kind": "ridge", "settings": [], "arrays": [], "report": None}),
    ("model", {"class": "MF", "repr": "MF(2)"}),
    ("model", {"class": "MF", "repr": "MF(2)", "fingerprint": "../.."}),
    ("graph", {"fingerprint": DIGEST.upper()}),
    ("teacher", "a teacher"),
    ("metrics", {"recall": "high"}),
    ("metrics", {"recall": True}),
    ("precision", []),
    ("versions", {"python": 3}),
    ("files", []),
    ("files", {**FOUND["files"], "users": entry("items")}),
    ("files", {**FOUND["files"], "users": {**entry("users"), "file": "../users"}}),
    ("files", {**FOUND["files"], "users": {**entry("users"), "sha256": "f" * 64}}),
    ("files", {**FOUND["files"], "users": entry("users", -1)}),
    ("files", {**FOUND["files"], "secrets": entry("secrets")}),
]


@pytest.mark.parametrize(("name", "value"), ABSURD)
def test_absurd_values_behind_a_digest_that_fits(name, value):
    with pytest.raises(ValueError, match=f"an absurd '{name}'"):
        from_bytes(sealed({**FOUND, name: value}))


def test_absurd_values_are_not_written():
    with pytest.raises(ValueError, match="an absurd 'metrics'"):
        to_bytes({**FOUND, "metrics": {"recall": "high"}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_bytes({**FOUND, "metrics": {"recall": float("nan")}})
    with pytest.raises(TypeError, match="not JSON serializable"):
        to_bytes({**FOUND, "teacher": {"width": object()}})


@pytest.mark.parametrize("name", [*FOUND])
def test_missing_and_unknown_fields(name):
    less = {key: value for key, value in FOUND.items() if key != name}
    for told in (less, {**FOUND, f"{name}_2": 1}):
        with pytest.raises(ValueError, match="differs in its fields"):
            from_bytes(sealed(told))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interactions": None}, "names .*'seen'"),
        ({"ids": {"user": "text", "item": "text"}}, "expected .*'user_ids'"),
        ({"fold_in": None}, "names .*'fold_in'"),
        ({"files": {"users": entry("users")}}, "expected .*'items'"),
        ({"tables": {"user": {**TABLE, "dim": 3}, "item": TABLE}}, "different widths"),
    ],
)
def test_fields_that_do_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message):
        from_bytes(sealed({**FOUND, **changes}))


def test_popularity_may_be_there():
    files = {**copy.deepcopy(FOUND["files"]), "popularity": entry("popularity")}
    assert "popularity" in from_bytes(to_bytes({**FOUND, "files": files}))["files"]
