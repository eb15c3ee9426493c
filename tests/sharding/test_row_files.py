"""Rows in files: any division of them gives the same rows, and no wrong bit goes unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.sharding.checkpoint import MANIFEST, read_manifest, write_manifest
from pyg_kd.sharding.processes import process_group
from pyg_kd.sharding.row_files import (
    RowFile,
    check_cover,
    check_file,
    overlapping,
    read_rows_into,
    write_rows,
)

KEY = {"lr": 0.1, "graph": "abc"}
PROGRESS = {"epoch": 1, "stale": 0, "best_value": 0.5, "best_epoch": 0, "has_best": False}


def write(folder: Path, table: torch.Tensor, cuts: list[int]) -> list[RowFile]:
    files = []
    for first, stop in zip([0, *cuts], [*cuts, len(table)], strict=True):
        tensors = {"weight": table[first:stop], "moment": table[first:stop, 0].clone()}
        files.append(write_rows(folder, "user", first, stop - first, tensors, "000001"))
    return files


@given(st.integers(1, 30), st.data())
def test_ranges_that_overlap(size: int, draw: st.DataObject) -> None:
    """Against sets of numbers."""
    cuts = sorted(draw.draw(st.sets(st.integers(1, size - 1), max_size=4))) if size > 1 else []
    bounds = list(zip([0, *cuts], [*cuts, size], strict=True))
    files = [RowFile("user", a, b - a, f"{a}", 0, "") for a, b in bounds]
    first = draw.draw(st.integers(0, size - 1))
    count = draw.draw(st.integers(0, size - first))
    check_cover(files, {"user": size})
    placed = {}
    for told, there, here in overlapping(files, "user", first, count):
        for place, row in zip(range(size)[here], range(size)[there], strict=True):
            assert place not in placed
            placed[place] = told.first + row
    assert placed == {place: first + place for place in range(count)}
    if len(files) > 1:
        with pytest.raises(ValueError, match=f"do not hold each of its {size} rows once"):
            check_cover(files[1:], {"user": size})
    with pytest.raises(ValueError, match="'item' do not hold each of its 2 rows once"):
        check_cover(files, {"item": 2})


@pytest.mark.parametrize("cuts", [[], [3], [1, 2, 6]])
def test_rows_come_back(cuts: list[int], tmp_path: Path) -> None:
    table = torch.randn(7, 4)
    files = write(tmp_path, table, cuts)
    assert files == [RowFile.from_json(told.to_json()) for told in files]
    for first, stop in ((0, 7), (2, 5), (6, 7)):
        rows, moment = torch.empty(stop - first, 4), torch.empty(stop - first)
        read_rows_into(tmp_path, files, "user", first, "weight", rows)
        read_rows_into(tmp_path, files, "user", first, "moment", moment)
        assert torch.equal(rows, table[first:stop]) and torch.equal(moment, table[first:stop, 0])
    with pytest.raises(ValueError, match="has no 'best'"):
        read_rows_into(tmp_path, files, "user", 0, "best", torch.empty(7, 4))


def test_a_wrong_bit(tmp_path: Path) -> None:
    (told,) = write(tmp_path, torch.randn(7, 4), [])
    check_file(tmp_path, told)
    path = tmp_path / told.file
    content = path.read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        wrong = bytearray(content)
        wrong[place] ^= 16
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="is damaged"):
            check_file(tmp_path, told)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        check_file(tmp_path, told)
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        check_file(tmp_path, told)


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../user"},
        {"count": -1},
        {"first": "0"},
        {"sha256": None},
        {"more": 1},
    ],
)
def test_absurd_files(change: dict[str, object], tmp_path: Path) -> None:
    (told,) = write(tmp_path, torch.randn(2, 4), [])
    with pytest.raises(ValueError, match="file"):
        RowFile.from_json(told.to_json() | change)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of one process."""
    with process_group("cpu"):
        files = write(tmp_path, torch.randn(7, 4), [])
        (tmp_path / "user-000000-0.safetensors").touch()
        rows = [{"epoch": 0, "loss": 0.5}]
        write_manifest(tmp_path, {"key": KEY, "rows": rows, **PROGRESS}, files)
    return tmp_path


def test_a_manifest_comes_back(folder: Path) -> None:
    found = read_manifest(folder, KEY, {"user": 7})
    assert [told.table for told in found["files"]] == ["user"]
    assert found["rows"] == [{"epoch": 0, "loss": 0.5}] and found["best_value"] == 0.5
    assert not (folder / "user-000000-0.safetensors").exists()  # of the epoch before


def test_manifests_that_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"from another run: lr was 0\.1, is 0\.2"):
        read_manifest(folder, KEY | {"lr": 0.2}, {"user": 7})
    with pytest.raises(ValueError, match="each of its 8 rows once"):
        read_manifest(folder, KEY, {"user": 8})
    path = folder / MANIFEST
    content = path.read_text()
    for wrong, message in (
        (content[:-20], "truncated"),
        ("[]", "truncated"),
        (content.replace("0.5", "0.6"), "damaged"),
        (content.replace('"stale": 0', '"stale": 1'), "damaged"),
    ):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=message):
            read_manifest(folder, KEY, {"user": 7})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"epoch": 3}, "its progress is absurd"),
        ({"best_value": float("inf")}, "its progress is absurd"),
        ({"rows": [{"loss": "0"}]}, "its progress is absurd"),
    ],
)
def test_absurd_manifests(folder: Path, change: dict[str, object], message: str) -> None:
    """Whoever writes a digest too."""
    from pyg_kd.sharding.checkpoint import _digest

    told = json.loads((folder / MANIFEST).read_text()) | change
    del told["sha256"]
    (folder / MANIFEST).write_text(json.dumps(told | {"sha256": _digest(told)}))
    with pytest.raises(ValueError, match=message):
        read_manifest(folder, KEY, {"user": 7})
