"""Bundles that are damaged, forged or mixed: each is refused with its reason, none is served."""

from __future__ import annotations

import copy
import os
import re
import resource
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.bundle import load_student, save_index
from pyg_kd.retrieval.bundle.manifest import MANIFEST, BundleError
from pyg_kd.retrieval.bundle.writer import write_bundle
from pyg_kd.retrieval.fold_in import FoldIn
from tests.retrieval.bundles import (
    answers,
    arrays_of,
    contents,
    fields_of,
    put,
    resealed,
    small_index,
)

NUM_DAMAGES = 300


def full_index(dtype: str = "int8", seed: int = 0):
    """An index with every part that a bundle may have."""
    x_item = small_index(dtype, seed).x_item
    arrays = {"item_weight": np.linspace(0.5, 2, 9, dtype=np.float32)}
    return small_index(dtype, seed, fold_in=FoldIn("ridge", x_item, arrays=arrays))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(params=["int8"])
def folder(request, tmp_path: Path) -> Path:
    save_index(full_index(request.param), tmp_path / "a")
    return tmp_path / "a"


BOTH = pytest.mark.parametrize(
    ("folder", "mmap"), [("int8", True), ("float32", False)], indirect=["folder"]
)


def refused(folder: Path, **options: Any) -> BundleError:
    with pytest.raises(BundleError) as caught:
        load_student(folder, **options)
    assert str(caught.value).startswith(repr(str(folder)))
    return caught.value


def chosen(files: dict[str, bytes], seed: int) -> list[tuple[str, int]]:
    """Places in files, as many in the manifest as in all others, which are taken by their size."""
    rng = np.random.default_rng(seed)
    names = [name for name in files if name != MANIFEST]
    ends = np.cumsum([len(files[name]) for name in names])
    places = [(MANIFEST, int(p)) for p in rng.integers(0, len(files[MANIFEST]), NUM_DAMAGES // 2)]
    for place in rng.integers(0, ends[-1], NUM_DAMAGES // 2).tolist():
        number = int(np.searchsorted(ends, place, side="right"))
        places.append((names[number], place - int(ends[number] - len(files[names[number]]))))
    return places


@BOTH
def test_flipped_bits(folder, mmap):
    whole = contents(folder)
    for number, (name, place) in enumerate(chosen(whole, 0)):
        data = bytearray(whole[name])
        data[place] ^= 1 << (number % 8)
        put(folder, {**whole, name: bytes(data)})
        refused(folder, mmap=mmap)
    put(folder, whole)
    load_student(folder, mmap=mmap)


@BOTH
def test_truncations(folder, mmap):
    whole = contents(folder)
    for name, size in chosen(whole, 1):
        put(folder, {**whole, name: whole[name][:size]})
        refused(folder, mmap=mmap)
        refused(folder, mmap=mmap, verify=False)


def test_flipped_bits_that_are_not_looked_for(folder):
    """Without digests a bundle may serve other numbers, but never crashes or reads elsewhere."""
    whole = contents(folder)
    for number, (name, place) in enumerate(chosen(whole, 2)[::2]):
        data = bytearray(whole[name])
        data[place] ^= 1 << (number % 8)
        put(folder, {**whole, name: bytes(data)})
        try:
            loaded = load_student(folder, verify=False)
            loaded.search_history(loaded.items.take(np.arange(3)), 4)
            with np.errstate(all="ignore"):
                loaded.search(loaded.users.take(np.arange(7)), 4)
        except ValueError:
            pass  # of the bundle, or of what is no number


@pytest.mark.parametrize("extra", [b"\0", b" ", b"\n", b"x" * 100])
def test_longer_files(folder, extra):
    whole = contents(folder)
    for name in whole:
        put(folder, {**whole, name: whole[name] + extra})
        refused(folder)
        refused(folder, verify=False)


def test_missing_files(folder):
    whole = contents(folder)
    for name in whole:
        put(folder, {other: data for other, data in whole.items() if other != name})
        assert name in str(refused(folder))


def test_no_folder_at_all(tmp_path):
    assert "there is no such folder" in str(refused(tmp_path / "a"))
    (tmp_path / "a").write_text("text")
    assert "there is no such folder" in str(refused(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    assert "no manifest.json, so it is no bundle" in str(refused(tmp_path / "b"))
    (tmp_path / "b" / MANIFEST).mkdir()
    refused(tmp_path / "b")


def test_parts_of_two_bundles(tmp_path):
    """Files of another student, under its own names or those of this one."""
    for seed, name in enumerate("ab"):
        save_index(full_index("float32", seed), tmp_path / name)
    one, other = (contents(tmp_path / name) for name in "ab")
    files = [fields_of(tmp_path / name)["files"] for name in "ab"]
    put(tmp_path / "c", {**other, MANIFEST: one[MANIFEST]})
    refused(tmp_path / "c")
    for part in ("users", "items"):
        mine, theirs = (told[part]["file"] for told in files)
        put(tmp_path / "c", {**one, mine: other[theirs]})
        reason = str(refused(tmp_path / "c"))
        assert mine in reason and "was changed after it was written" in reason
    put(tmp_path / "c", {**other, **one})  # what is there besides is not read
    assert answers(load_student(tmp_path / "c")) == answers(full_index("float32"))


def test_a_manifest_of_files_of_two_bundles(tmp_path):
    """Digests that fit, but tables of different widths or numbers of rows."""
    save_index(small_index(), tmp_path / "a")
    rng = np.random.default_rng(0)
    save_index(TopKIndex(rng.normal(size=(6, 4)), rng.normal(size=(8, 4))), tmp_path / "b")
    files = [fields_of(tmp_path / name)["files"] for name in "ab"]
    put(tmp_path / "a", {**contents(tmp_path / "b"), **contents(tmp_path / "a")})
    for part in ("users", "items"):
        resealed(tmp_path / "a", files={**files[0], part: files[1][part]})
        refused(tmp_path / "a")
        refused(tmp_path / "a", verify=False)


def test_a_newer_format(folder):
    data = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(data.replace(b'"version": 1', b'"version": 2'))
    assert "its format version is 2, 1 is known: update pyg_kd" in str(refused(folder))


def test_a_large_manifest_is_not_read(folder):
    with (folder / MANIFEST).open("r+b") as file:
        file.truncate(1 << 26)
    assert "larger than" in str(refused(folder))


# Links and other things that are no files


@pytest.mark.parametrize("part", ["items", MANIFEST])
def test_links_that_leave_the_folder(folder, part):
    name = part if part == MANIFEST else fields_of(folder)["files"][part]["file"]
    (folder / name).rename(folder.parent / "elsewhere")
    for target in ("../elsewhere", str(folder.parent / "elsewhere")):
        (folder / name).symlink_to(target)
        assert f"{name} is a link that leaves the folder" in str(refused(folder))
        (folder / name).unlink()
    (folder / name).symlink_to(name)  # to itself
    refused(folder)
    (folder / name).unlink()
    # A folder whose name begins as this one's does.
    (folder.parent / f"{folder.name}-2").mkdir()
    (folder.parent / "elsewhere").rename(folder.parent / f"{folder.name}-2" / "x")
    (folder / name).symlink_to(f"../{folder.name}-2/x")
    assert "leaves the folder" in str(refused(folder))


def test_links_inside_of_the_folder_are_followed(folder):
    before = answers(load_student(folder))
    (folder / "data").mkdir()
    for name in contents_of_files(folder):
        (folder / name).rename(folder / "data" / name)
        (folder / name).symlink_to(f"data/{name}")
    assert answers(load_student(folder)) == before


def contents_of_files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_file()]


@pytest.mark.parametrize("part", ["items", MANIFEST])
def test_pipes_and_folders_in_place_of_files(folder, part):
    name = part if part == MANIFEST else fields_of(folder)["files"][part]["file"]
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "is not a regular file" in str(refused(folder))
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder)


def test_files_that_may_not_be_read(folder, monkeypatch):
    def denied(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "Permission denied" in str(refused(folder))


# Forged bundles: every digest fits, what is told does not


@cache
def parts_of_a_bundle(dtype: str) -> tuple[dict, dict]:
    with TemporaryDirectory() as folder:
        save_index(full_index(dtype), folder)
        fields, parts = fields_of(Path(folder)), arrays_of(Path(folder))
    given = {k: v for k, v in fields.items() if k not in ("format", "version", "sha256", "files")}
    return given, parts


def forged(folder: Path, change: Callable[[dict, dict], None], dtype: str = "float32") -> Path:
    """A bundle whose arrays and fields were changed, with digests that fit them."""
    fields, parts = copy.deepcopy(parts_of_a_bundle(dtype))
    change(fields, parts)
    write_bundle(folder, fields, parts)
    return folder


def at(part: str, name: str, place: Any, value: Any) -> Callable[[dict, dict], None]:
    def change(_: dict, parts: dict) -> None:
        parts[part][name][place] = value

    return change


def swapped(part: str, name: str, array: Any) -> Callable[[dict, dict], None]:
    def change(_: dict, parts: dict) -> None:
        parts[part] = {**parts[part], name: np.asarray(array)}
        if array is None:
            del parts[part][name]

    return change


def told(path: str, value: Any) -> Callable[[dict, dict], None]:
    def change(fields: dict, _: dict) -> None:
        *steps, last = path.split(".")
        for step in steps:
            fields = fields[step]
        fields[last] = value

    return change


def twice(_: dict, parts: dict) -> None:
    """Rows 0 and 1 have the same id, which the hashes tell as well."""
    ids = parts["user_ids"]
    ids["bytes"][:3] = ids["bytes"][3:6]
    places = [ids["order"].tolist().index(row) for row in (0, 1)]
    hashes, order = ids["hashes"], ids["order"]
    hashes[places[0]] = hashes[places[1]]
    ascending = np.argsort(hashes, kind="stable")
    ids["hashes"], ids["order"] = hashes[ascending], order[ascending]


F4 = np.float32
FORGED = {
    # what is not a number
    "users NaN": (at("users", "values", (3, 2), np.nan), "'values' of users must be finite"),
    "items inf": (at("items", "values", (8, 4), np.inf), "'values' of items must be finite"),
    "popularity": (at("popularity", "popularity", 0, np.nan), "popularity must be finite"),
    "weight": (at("fold_in", "item_weight", 0, -np.inf), "fold_in must be finite"),
    # what would be read elsewhere
    "ptr falls": (at("seen", "ptr", 3, 1), r"'seen.ptr' must ascend"),
    "ptr first": (at("seen", "ptr", 0, 1), r"'seen.ptr' must run from 0 to 9"),
    "ptr last": (at("seen", "ptr", -1, 10), r"'seen.ptr' must run from 0 to 9"),
    "ptr huge": (at("seen", "ptr", 3, 2**62), r"'seen.ptr' must ascend"),
    "ptr short": (swapped("seen", "ptr", [0, 9]), "must be of 7 users"),
    "ptr float": (swapped("seen", "ptr", np.zeros(8)), "must be integers"),
    "ptr gone": (swapped("seen", "ptr", None), "'ptr' and 'col'"),
    "col high": (at("seen", "col", 4, 9), r"'seen.col' must lie in 0..8 \(got 9\)"),
    "col negative": (at("seen", "col", 4, -1), r"'seen.col' must lie in 0..8 \(got -1\)"),
    "offsets fall": (at("user_ids", "offsets", 3, 1), "'offsets' of user ids must ascend"),
    "offsets end": (at("user_ids", "offsets", -1, 99), "'bytes' of user ids must be"),
    "order high": (at("user_ids", "order", 2, 7), r"'order' of user ids must lie in 0..6"),
    "order twice": (at("user_ids", "order", slice(0, 2), 3), "must name every row once"),
    "hashes": (at("user_ids", "hashes", -1, 0), "must be sorted"),
    "texts twice": (twice, "user ids must be distinct"),
    "no UTF-8": (at("user_ids", "bytes", 0, 0xFF), "can't decode byte 0xff"),
    "cut": (at("user_ids", "offsets", 5, 14), "cut a character"),
    "integers twice": (at("item_ids", "values", 3, 9), "item ids must be distinct"),
    "integers fall": (at("item_ids", "values", 3, 0), "item ids must be sorted"),
    # what does not fit
    "rows": (swapped("items", "values", np.zeros((8, 5), F4)), "is none of"),
    "dim": (swapped("items", "values", np.zeros((9, 4), F4)), r"must be float32 \[n, 5\]"),
    "dtype": (swapped("items", "values", np.zeros((9, 5))), r"must be float32 \[n, 5\]"),
    "more": (swapped("items", "more", np.zeros(3)), r"a table of float32 has \['values'\]"),
    "gone": (swapped("items", "values", None), r"a table of float32 has \['values'\]"),
    "popularity size": (swapped("popularity", "popularity", np.zeros(8, F4)), r"float32 \[9\]"),
    "popularity type": (swapped("popularity", "popularity", np.zeros(9)), r"float32 \[9\]"),
    "weight size": (swapped("fold_in", "item_weight", np.zeros(8)), r"'item_weight' must be \[9\]"),
    "weights": (swapped("fold_in", "source", np.zeros((9, 5))), "other arrays than"),
    "told rows": (told("tables.item.rows", 8), "is none of"),
    "told bytes": (told("tables.item.bytes", 2**40), "is none of"),
    "told huge rows": (told("tables.user.rows", 2**47), "is none of"),
    "told dtype": (told("tables.item.dtype", "float16"), r"must be float16 \[n, 5\]"),
    "told int8": (told("tables.item.dtype", "int8"), "a table of int8 has"),
    "told ids": (told("ids.item", "text"), "item ids of kind 'text' have other arrays"),
    "told seen": (told("interactions", 10), "of 10 interactions"),
    "told kind": (told("fold_in.kind", "oracle"), "'kind' must be one of"),
    "told setting": (told("fold_in.settings", {"beta": 1.0}), "must be out of"),
    "told alpha": (told("fold_in.settings", {"alpha": "a"}), "'alpha' must be a number"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_bundles(tmp_path, case):
    change, message = FORGED[case]
    reason = str(refused(forged(tmp_path / "a", change)))
    assert re.search(message, reason), reason


def test_a_forged_bundle_without_a_change_is_read(tmp_path):
    forged(tmp_path / "a", lambda fields, parts: None)
    assert answers(load_student(tmp_path / "a")) == answers(full_index("float32"))


INTEGERS = {
    "scale NaN": (at("items", "scale", 3, np.nan), "'scale' of items must be finite"),
    "unit inf": (at("items", "unit", 0, np.inf), "'unit' must be one finite float32|finite"),
    "unit negative": (at("items", "unit", 0, -1), "'unit' must be one finite float32"),
    "scale size": (swapped("items", "scale", np.ones(8, np.float16)), r"must be float16 \[9\]"),
    "scale gone": (swapped("items", "scale", None), "a table of int8 has"),
}


@pytest.mark.parametrize("case", INTEGERS)
def test_forged_integer_tables(tmp_path, case):
    change, message = INTEGERS[case]
    reason = str(refused(forged(tmp_path / "a", change, "int8")))
    assert re.search(message, reason), reason


def test_rows_that_are_only_told_take_no_memory(tmp_path):
    """Neither users by position nor files of a told size are allocated before they are seen."""
    index = small_index(user_ids=None, seen=None)
    save_index(index, tmp_path / "a")
    told = fields_of(tmp_path / "a")
    tables = {**told["tables"], "user": {**told["tables"]["user"], "rows": 2**47}}
    entry = {**told["files"]["users"], "bytes": 2**47}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for changes in ({"tables": tables}, {"files": {**told["files"], "users": entry}}):
        resealed(tmp_path / "a", **{**{"tables": told["tables"]}, **changes})
        for mmap in (True, False):
            refused(tmp_path / "a", mmap=mmap)
            refused(tmp_path / "a", mmap=mmap, verify=False)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


def test_nothing_is_executed(tmp_path):
    """Not even NumPy's own format, which may hold pickles, is read."""
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    told = save_index(small_index(), tmp_path / "a")
    for entry in told["files"].values():
        (tmp_path / "a" / entry["file"]).write_bytes(pickle.dumps(Evil()))
        refused(tmp_path / "a")
        refused(tmp_path / "a", verify=False)
    assert not (tmp_path / "executed").exists()
