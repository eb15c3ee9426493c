"""Processes start together, end together, and never outlive the one that started them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pytest
import torch
from torch import distributed as dist

from pyg_kd.sharding import ProcessFailed, launch, process_group, processes
from tests.sharding import work

ROOT = Path(__file__).parents[2]


def test_one_process_is_a_group() -> None:
    with process_group("cpu") as device:
        assert (device.type, dist.get_world_size()) == ("cpu", 1)
        with process_group("cpu"):  # that of the caller, who ends it
            pass
        assert dist.is_initialized()
    assert not dist.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none() -> None:
    with (
        pytest.raises(ValueError, match="PyTorch finds no CUDA device"),
        process_group("cuda"),
    ):
        pass


@pytest.mark.parametrize("option", ["num_processes", "num_threads"])
def test_options_are_checked(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option!r} must be a positive integer"):
        launch(work.threes, 1, **{option: 0})
    with pytest.raises(ValueError, match="'accelerator' must be one of"):
        launch(work.threes, 1, accelerator="tpu")  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_the_first_process_returns() -> None:
    assert launch(work.threes, 7, num_processes=2, num_threads=1, accelerator="cpu") == 14


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (work.fail_in, "process 1 failed: KeyError: 'no such row'"),
        (work.end_in, "process 1 was ended from outside, with code -9"),
    ],
)
def test_an_error_in_one_ends_all(function, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(ProcessFailed, match=message):
        launch(function, 1, num_processes=2, num_threads=1, accelerator="cpu")
    assert time.monotonic() - started < 300  # far from the time that processes wait for others


@pytest.mark.parametrize("ended", [False, True])
def test_who_was_ended_is_named_and_not_who_was_left_alone(ended: bool) -> None:
    (alone, told), (other, end) = (Pipe(duplex=False) for _ in range(2))
    told.send_bytes(pickle.dumps(("RuntimeError: connection closed", "")))
    ends = {
        alone: (0, SimpleNamespace()),
        other: (1, SimpleNamespace(join=lambda: None, exitcode=-9)),
    }
    message = "process 0 failed: RuntimeError: connection closed"
    if ended:
        Timer(0.2, end.close).start()
        message = "process 1 was ended from outside, with code -9"
    with pytest.raises(ProcessFailed, match=message):
        processes._result(ends)


SCRIPT = """
from pyg_kd.sharding import launch
from tests.sharding import work

if __name__ == "__main__":
    launch(work.wait_for_ever, {folder!r}, num_processes=2, num_threads=1, accelerator="cpu")
"""


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path)))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    launcher = subprocess.Popen([sys.executable, str(script)], env=env, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    _wait(lambda: not any(map(_runs, (int(path.stem) for path in tmp_path.glob("*.pid")))))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    # One that has ended is listed until somebody has asked for how it ended.
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def _wait(done) -> None:
    deadline = time.monotonic() + 600
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)
