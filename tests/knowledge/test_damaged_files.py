"""Files with a bit flipped or an end cut off: none is read as something else, none crashes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch_geometric.data import HeteroData

from pyg_kd.knowledge import (
    TrajectoryRecorder,
    attach_trajectories,
    extract_knowledge,
    load_knowledge,
    save_knowledge,
)

ENTRIES = [
    ("user", "teacher_x"),
    ("item", "teacher_x"),
    ("user", "teacher_items"),
    ("item", "teacher_users"),
    ("user", "teacher_trajectory"),
    ("user", "teacher_observed"),
]
SOURCES = [
    "graph_fingerprint",
    "teacher_fingerprint",
    "teacher_inner_product",
    "trajectory_fingerprints",
]


@pytest.fixture
def graph(data, teacher) -> HeteroData:
    graph = extract_knowledge(teacher, data, num_items=5, num_users=4)
    recorder = TrajectoryRecorder(num_items=5, num_states=1)
    return attach_trajectories(graph, [recorder.finish(teacher, graph)] * 2)


@pytest.fixture
def path(graph, tmp_path: Path) -> Path:
    save_knowledge(graph, tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


def same(one: HeteroData, other: HeteroData) -> bool:
    pairs = [(one[t][name], other[t][name]) for t, name in ENTRIES]
    told = all(one[name] == other[name] for name in SOURCES)
    return told and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def refused(path: Path, data: HeteroData, graph: HeteroData) -> bool:
    """Whether a file is refused by the one error; what is read has to be what was written."""
    try:
        loaded = load_knowledge(path, data)
    except ValueError as error:
        assert str(path) in str(error)
        return True
    assert same(loaded, graph), "read as something else"
    return False


def test_flipped_bits(data, graph, path: Path) -> None:
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    rng = np.random.default_rng(0)
    # Half of them in the header, whose every character counts, half in the tensors.
    places = np.concatenate([rng.integers(0, header, 100), rng.integers(header, len(content), 100)])
    kept = 0
    for place, bit in zip(places.tolist(), rng.integers(0, 8, 200).tolist(), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        kept += not refused(path, data, graph)
    assert kept <= 5  # nothing but the white space behind the header


def test_truncations(data, graph, path: Path) -> None:
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for size in [0, len(content) - 1, *rng.integers(0, len(content), 198).tolist()]:
        path.write_bytes(content[:size])
        assert refused(path, data, graph)


def test_what_happens_to_the_file_afterwards(data, graph, path: Path) -> None:
    loaded = load_knowledge(path, data)
    with path.open("r+b") as file:  # in place, as `cp` does
        file.write(b"\xff" * path.stat().st_size)
    assert same(loaded, graph)


def test_more_at_the_end(data, graph, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    assert refused(path, data, graph)


def rewritten(path: Path, tensors: dict | None = None, **metadata: str | None) -> None:
    """Save a file again with other tensors or another header, but the digest it had."""
    held = load_file(path) | (tensors or {})
    with safe_open(path, framework="pt") as file:
        told = {**file.metadata(), **metadata}
    save_file(
        {k: v for k, v in held.items() if v is not None},
        path,
        metadata={k: v for k, v in told.items() if v is not None},
    )


CHANGES = [
    {"tensors": {"user.teacher_x": torch.zeros(23, 3)}},
    {"tensors": {"user.teacher_x": None}},
    {"tensors": {"user.num_nodes": torch.tensor(3)}},
    {"teacher_fingerprint": "0" * 64},
    {"teacher_fingerprint": None},
    {"teacher_inner_product": "False"},
    {"trajectory_fingerprints": json.dumps(["a", "b"])},
    {"sha256": None},
    {"sha256": ""},
    {"note": "mine"},
]


@pytest.mark.parametrize("change", CHANGES, ids=[str(list(c.items()))[:50] for c in CHANGES])
def test_the_digest_covers_tensors_and_header(data, path: Path, change: dict) -> None:
    rewritten(path, **change)
    with pytest.raises(ValueError, match=r"teacher\.safetensors' is damaged: .* digest"):
        load_knowledge(path, data)


def first_version(path: Path, tensors: dict | None = None, **metadata: str | None) -> None:
    names = " ".join(["a" * 64, "b" * 64])
    told = {"format": "pyg_kd.knowledge.1", "sha256": None, "trajectory_fingerprints": names}
    rewritten(path, tensors, **{**told, **metadata})


def test_the_first_version_is_read_with_a_warning(data, graph, path: Path) -> None:
    first_version(path)
    with pytest.warns(UserWarning, match=r"older format without a digest.*save_knowledge"):
        loaded = load_knowledge(path, data)
    graph.trajectory_fingerprints = ["a" * 64, "b" * 64]
    assert same(loaded, graph)
    save_knowledge(loaded, path)
    assert same(load_knowledge(path, data), graph)  # and the warning is gone


def ids(value: int) -> torch.Tensor:
    lists = torch.full((23, 2), -1, dtype=torch.int32)
    lists[4, 0] = value
    return lists


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": {"user.teacher_items": ids(31)}}, r"'user.teacher_items' must .*got 31"),
        ({"tensors": {"user.teacher_items": ids(-7)}}, r"'user.teacher_items' must .*got -7"),
        ({"tensors": {"user.teacher_items": ids(2).float()}}, "int32 or int64"),
        ({"tensors": {"user.teacher_items": ids(2)[:, 0].clone()}}, "2 dimensions"),
        ({"tensors": {"user.teacher_x": torch.zeros(23, 3).long()}}, "floating point"),
        ({"tensors": {"user.teacher_x": torch.full((23, 3), torch.nan)}}, "finite .*row 0"),
        ({"tensors": {"user.teacher_x": torch.zeros(22, 3)}}, "22 rows for 23 nodes"),
        ({"tensors": {"user.num_nodes": torch.tensor(3)}}, "holds 'user.num_nodes'"),
        ({"tensors": {"user.teacher_users": ids(2)}}, "holds 'user.teacher_users'"),
        ({"tensors": {"shop.teacher_x": torch.zeros(3, 3)}}, "holds 'shop.teacher_x'"),
        ({"tensors": {"teacher_x": torch.zeros(3, 3)}}, "holds 'teacher_x'"),
        ({"note": "mine"}, "holds 'note'"),
        ({"graph_fingerprint": None}, "no 'graph_fingerprint'"),
        ({"teacher_inner_product": "maybe"}, "'teacher_inner_product' is 'maybe'"),
        ({"trajectory_fingerprints": "a"}, "names 1 teachers"),
    ],
)
def test_what_a_digest_could_not_tell(data, path: Path, change: dict, message: str) -> None:
    first_version(path, **change)
    with pytest.raises(ValueError, match=rf"teacher\.safetensors'.*{message}"):
        load_knowledge(path, data)
    assert set(data["user"].keys()) == {"num_nodes"} and data["user"].num_nodes == 23
