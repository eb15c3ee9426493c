from __future__ import annotations

import contextlib
import math
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyg_kd.training import checkpoint
from pyg_kd.training.checkpoint import (
    check_moments,
    check_tensors,
    load_checkpoint,
    save_checkpoint,
)

KEY = {"lr": 0.1, "weights": [1.0, 0.5], "teacher": None}


def state(**changes) -> dict:
    weight = torch.arange(6.0)
    return {
        "key": KEY,
        "objective": {"weight": weight},
        "optimizer": {
            "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones_like(weight)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "average": {},
        "best": None,
        "best_value": 0.5,
        "best_epoch": None,
        "epoch": 1,
        "stale": 0,
        "rows": [{"a": 1.0}],
    } | changes


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "folder" / "last.pt"
    save_checkpoint(state(), path)
    read = load_checkpoint(path, KEY)
    assert torch.equal(read["objective"]["weight"], torch.arange(6.0))
    plain = ("key", "best", "best_value", "best_epoch", "epoch", "stale", "rows")
    assert {k: read[k] for k in plain} == {k: state()[k] for k in plain}
    assert read.keys() == state().keys()
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(state(), path)
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_checkpoint({"key": KEY, "objective": torch.zeros(1000), "bad": lambda: None}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "last.pt"
    optimizer = {"state": {}, "param_groups": []}
    plain = {k: v for k, v in state(optimizer=optimizer).items() if k != "objective"}
    script = f"""
import torch
from pathlib import Path
from pyg_kd.training.checkpoint import save_checkpoint
print("ready", flush=True)
n, state = 0, {plain}
while True:
    state["objective"] = {{"x": torch.full((1 << 19,), float(n))}}
    save_checkpoint(state, Path({str(path)!r}))
    n += 1
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            for _ in range(20):  # in the middle of some write, most likely
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
                if path.exists():
                    x = load_checkpoint(path, {})["objective"]["x"]
                    assert bool((x == x[0]).all()) and len(x) == 1 << 19
        finally:
            process.kill()
    x = load_checkpoint(path, {})["objective"]["x"]
    assert bool((x == x[0]).all()) and len(x) == 1 << 19
    save_checkpoint(state(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "last.pt", KEY)


def test_other_run(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(state(), path)
    with pytest.raises(ValueError, match=r"last.pt' is from another run: lr was 0.1, is 0.2"):
        load_checkpoint(path, KEY | {"lr": 0.2})
    with pytest.raises(ValueError, match=r"another run: seed was None, is 3"):
        load_checkpoint(path, KEY | {"seed": 3})


@pytest.mark.parametrize("size", [6, 3_000])
def test_every_cut_is_noticed(tmp_path, size):
    path = tmp_path / "last.pt"
    save_checkpoint(state(objective={"x": torch.arange(size)}), path)
    whole = path.read_bytes()
    for cut in [0, 1, 2, 10, *range(100, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"last.pt' is truncated, or not a Trainer checkpoint"):
            load_checkpoint(path, KEY)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(state(objective={"x": torch.randn(100)}), path)
    whole, rng = path.read_bytes(), random.Random(0)
    places = [rng.randrange(8 * len(whole)) for _ in range(200)]
    last = [8 * len(whole) - 1 - place for place in range(0, 8 * 120, 8)]  # the checksum itself
    for place in [*places, *last]:
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"last.pt' is (truncated, or|damaged: its)"):
            load_checkpoint(path, KEY)


def test_pytorch_and_zip_tools_read_it(tmp_path):
    save_checkpoint(state(), tmp_path / "last.pt")
    read = torch.load(tmp_path / "last.pt", weights_only=True)
    assert torch.equal(read["objective"]["weight"], torch.arange(6.0))
    with zipfile.ZipFile(tmp_path / "last.pt") as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"pyg_kd checkpoint")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(tmp_path, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a Trainer checkpoint"):
        load_checkpoint(path, KEY)


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def sealed(content, path: Path) -> None:
    """A file of foreign content with a valid checksum."""
    torch.save(content, path)
    checkpoint._seal(path)


@pytest.mark.parametrize(
    "writer",
    [torch.save, sealed, lambda x, path: path.write_bytes(pickle.dumps(x, protocol=2))],
)
def test_nothing_is_executed(tmp_path, monkeypatch, writer):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    writer(Malicious(), path)
    with pytest.raises(ValueError, match=r"not a Trainer checkpoint"):
        load_checkpoint(path, KEY)
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [[1, 2], {"weight": torch.zeros(2)}, {"key": 3}])
@pytest.mark.parametrize("writer", [torch.save, sealed])
def test_file_of_another_kind(tmp_path, content, writer):
    writer(content, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"not a Trainer checkpoint"):
        load_checkpoint(tmp_path / "last.pt", KEY)


@pytest.mark.parametrize("name", state())
def test_missing_field(tmp_path, name):
    save_checkpoint({k: v for k, v in state().items() if k != name}, tmp_path / "last.pt")
    with pytest.raises(
        ValueError, match=rf"is not a Trainer checkpoint: invalid '{name}' \(got nothing\)"
    ):
        load_checkpoint(tmp_path / "last.pt", KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"key": []},
        {"objective": torch.zeros(3)},
        {"objective": {3: torch.zeros(3)}},
        {"optimizer": None},
        {"optimizer": {"state": {}}},
        {"optimizer": {"state": {0: 3}, "param_groups": []}},
        {"best": 0.5},
        {"best_value": math.nan},
        {"best_value": "high"},
        {"best_epoch": -1},
        {"best_epoch": 0.0},
        {"epoch": -1},
        {"epoch": 1.0},
        {"epoch": True},
        {"stale": -2},
        {"rows": {"a": 1.0}},
        {"rows": [{"a": "1"}]},
        {"rows": [3]},
        {"epoch": 2},  # than rows
        {"best_epoch": 1},  # which is to come
    ],
    ids=str,
)
def test_absurd_field(tmp_path, change):
    save_checkpoint(state(**change), tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"last.pt' is not a Trainer checkpoint: "):
        load_checkpoint(tmp_path / "last.pt", KEY)


def test_tensors_of_another_shape():
    own, path = {"a": torch.zeros(3), "b": torch.zeros(2)}, Path("last.pt")
    check_tensors({"a": torch.ones(3), "b": torch.ones(2)}, own, path)
    for found, message in (
        ({"a": torch.zeros(3)}, r"'b' is missing there, \[2\] torch.float32 here"),
        (own | {"c": torch.zeros(1)}, r"'c' is \[1\] torch.float32 there, missing here"),
        (own | {"a": torch.zeros(4)}, r"'a' is \[4\] torch.float32 there, \[3\] torch.float32"),
        (own | {"a": torch.zeros(3).half()}, r"'a' is \[3\] torch.float16 there"),
    ):
        with pytest.raises(ValueError, match=r"last.pt' does not fit this run: " + message):
            check_tensors(found, own, path)


def test_moments_of_another_shape():
    groups, path = [{"params": [torch.zeros(6)]}], Path("last.pt")
    check_moments(state()["optimizer"], groups, path)
    with pytest.raises(ValueError, match=r"does not fit this run: it optimises other parameters"):
        check_moments(state()["optimizer"], [{"params": [torch.zeros(6)] * 2}], path)
    for index, value in ((0, torch.zeros(5)), (1, torch.zeros(6)), (0, 3.0)):
        found = state()["optimizer"] | {"state": {index: {"exp_avg": value}}}
        with pytest.raises(ValueError, match=rf"'exp_avg' of parameter {index} is "):
            check_moments(found, groups, path)
