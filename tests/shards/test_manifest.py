"""Shards are refused when a part is missing or a single bit is wrong."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_kd.shards import ShardError, open_shards, parts_of, run_job

from .conftest import EXPECTED, Squares


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "made"
    run_job(Squares(), folder)
    return folder


def reading(folder) -> dict[str, bytes]:
    shards = open_shards(folder, "squares")
    return {p.name: content for kind in ("squares", "sums") for p, content in shards.each(kind)}


def test_what_was_written_is_read(made) -> None:
    assert reading(made) == EXPECTED
    shards = open_shards(made, "squares")
    assert [tuple(p) for p in shards.parts("sums")] == [
        ("sums-00000.parquet", 0, 2), ("sums-00001.parquet", 2, 4)
    ]  # fmt: skip


def test_every_bit_counts(made) -> None:
    for path in sorted(made.iterdir()):
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        for place in rng.permutation(len(whole) * 8)[:20].tolist():
            wrong = bytearray(whole)
            wrong[place // 8] ^= 1 << place % 8
            path.write_bytes(wrong)
            with pytest.raises(ShardError):
                reading(made)
        path.write_bytes(whole)
    assert reading(made) == EXPECTED


def test_missing_and_short_parts(made) -> None:
    for path in sorted(made.glob("*.parquet")):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(ShardError, match=f"{path.name}' is missing"):
            open_shards(made, "squares")
        path.write_bytes(whole[:-1])
        with pytest.raises(ShardError, match=f"{path.name}' is damaged: it has"):
            open_shards(made, "squares")
        path.write_bytes(whole)


def test_wrong_folders(made, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder at"):
        open_shards(tmp_path / "nowhere", "squares")
    with pytest.raises(ShardError, match=r"no manifest\.json, which is written last"):
        open_shards(tmp_path, "squares")
    with pytest.raises(ShardError, match=r"must hold circles \(got squares\)"):
        open_shards(made, "circles")
    with pytest.raises(TypeError, match=r"'folder' must be a path \(got int\)"):
        open_shards(3, "squares")


@pytest.mark.parametrize("name", ["../squares-00000.parquet", "/etc/passwd", "squares.parquet"])
def test_no_name_leads_out_of_the_folder(made, tmp_path, name) -> None:
    told = json.loads((made / "manifest.json").read_text())
    told["parts"][0]["name"] = name
    del told["sha256"]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    told["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(ShardError, match="names no part"):
        open_shards(tmp_path, "squares")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.integers(1, 60))
def test_ranges_cover_every_row_once(size, rows) -> None:
    parts = parts_of("users", size, rows)
    assert [row for part in parts for row in range(part.start, part.stop)] == [*range(size)]
    assert all(len(part) == rows for part in parts[:-1]) and all(len(part) for part in parts)
    assert [part.number for part in parts] == [*range(len(parts))]
    assert {part.kind for part in parts} <= {"users"}
