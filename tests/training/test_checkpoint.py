from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyg_kd.training.checkpoint import load_checkpoint, save_checkpoint

KEY = {"lr": 0.1, "weights": [1.0, 0.5], "teacher": None}


def state() -> dict:
    return {
        "key": KEY,
        "objective": {"weight": torch.arange(6.0)},
        "best": None,
        "rows": [{"a": 1.0}],
    }


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "folder" / "last.pt"
    save_checkpoint(state(), path)
    read = load_checkpoint(path, KEY)
    assert torch.equal(read["objective"]["weight"], torch.arange(6.0))
    assert {k: read[k] for k in ("key", "best", "rows")} == {
        k: state()[k] for k in ("key", "best", "rows")
    }
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
    script = f"""
import torch
from pathlib import Path
from pyg_kd.training.checkpoint import save_checkpoint
print("ready", flush=True)
n = 0
while True:
    save_checkpoint({{"key": {{}}, "x": torch.full((1 << 19,), float(n))}}, Path({str(path)!r}))
    n += 1
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(20):  # in the middle of some write, most likely
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
            if path.exists():
                x = load_checkpoint(path, {})["x"]
                assert bool((x == x[0]).all()) and len(x) == 1 << 19
        process.kill()
    x = load_checkpoint(path, {})["x"]
    assert bool((x == x[0]).all()) and len(x) == 1 << 19


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "last.pt", KEY)


def test_other_run(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(state(), path)
    with pytest.raises(ValueError, match=r"last.pt' is of another run: lr was 0.1, is 0.2"):
        load_checkpoint(path, KEY | {"lr": 0.2})
    with pytest.raises(ValueError, match=r"another run: seed was None, is 3"):
        load_checkpoint(path, KEY | {"seed": 3})


@pytest.mark.parametrize("size", [6, 3_000])
def test_every_cut_is_noticed(tmp_path, size):
    path = tmp_path / "last.pt"
    save_checkpoint(state() | {"x": torch.arange(size)}, path)
    whole = path.read_bytes()
    for cut in [0, 1, 2, 10, *range(100, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"last.pt' is truncated or no checkpoint"):
            load_checkpoint(path, KEY)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(tmp_path, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint of a trainer"):
        load_checkpoint(path, KEY)


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    "writer", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, protocol=2))]
)
def test_nothing_is_executed(tmp_path, monkeypatch, writer):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    writer(Malicious(), path)
    with pytest.raises(ValueError, match=r"checkpoint of a trainer"):
        load_checkpoint(path, KEY)
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [[1, 2], {"weight": torch.zeros(2)}, {"key": 3}])
def test_file_of_another_kind(tmp_path, content):
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"is no checkpoint of a trainer"):
        load_checkpoint(tmp_path / "last.pt", KEY)
