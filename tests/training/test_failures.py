"""No process of a run outlives its launcher, and an error of one is everyone's, told once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import distributed

from pyg_kd.training import failures
from pyg_kd.training.failures import Failures, failing_together

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="PyTorch is built without")

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, sys, time
from pathlib import Path

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.models import MF
from pyg_kd.training import Trainer

data = SyntheticInteractions(None, num_users=20, num_items=15, num_edges=100)[0]
folder, way = Path(sys.argv[1]), sys.argv[2]
rank = int(os.environ.get("LOCAL_RANK", 0))


def fit(callback):
    Trainer(
        max_epochs=2, devices=2, accelerator="cpu", strategy="ddp", progress=False, batch_size=20
    ).fit(MF(data, 4), data, callbacks=[callback])


def fail(*ranks):
    def callback(epoch, model, data):
        if rank in ranks:
            raise ValueError(f"process {rank} is out of luck")
    return callback


def hang(epoch, model, data):
    (folder / f"{rank}.pid").write_text(str(os.getpid()))
    while rank == 1:  # busy, without a word to the other
        time.sleep(0.1)


if way == "hang":
    fit(hang)
try:
    fit(fail(0, 1))
except ValueError as error:  # they are in step: the next run is a run like any other
    print(error)
fit(fail(1))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("failures") / "script.py"
    path.write_text(SCRIPT)
    return path


def start(script: Path, folder: Path, way: str) -> subprocess.Popen:
    # What a surrounding launcher has set must not leak in.
    env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    args, pipe = [sys.executable, str(script), str(folder), way], subprocess.PIPE
    return subprocess.Popen(args, env=env, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
def test_one_error_is_printed(script, tmp_path) -> None:
    process = start(script, tmp_path, "fail")
    caught, printed = process.communicate(timeout=200)
    assert process.returncode == 1
    assert sorted(caught.splitlines()) == [f"process {rank} is out of luck" for rank in (0, 1)]
    assert printed.count("RuntimeError: process 1 of 2 has failed:") == 1, printed
    # One error and, as its text, the traceback of another; nothing of what it did to the exchange.
    assert printed.count("ValueError: process 1 is out of luck") == 1, printed
    assert printed.count("Traceback") == 2 and "loo" not in printed, printed


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def waited(what: Callable[[], bool]) -> bool:
    for _ in range(1200):
        if what():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="asks the kernel who is alive")
def test_no_process_outlives_its_launcher(script, tmp_path) -> None:
    process = start(script, tmp_path, "hang")
    notes = [tmp_path / f"{rank}.pid" for rank in (0, 1)]
    assert waited(lambda: all(note.exists() and note.read_text() for note in notes))
    first, second = (int(note.read_text()) for note in notes)
    assert first == process.pid and alive(second)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert waited(lambda: not alive(second))


@pytest.fixture
def store(monkeypatch):
    """What processes write to, without processes."""
    found = distributed.HashStore()
    monkeypatch.setattr(distributed.distributed_c10d, "_get_default_store", lambda: found)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(failures, "PATIENCE", 0.2)
    monkeypatch.setattr(failures, "PAUSE", 0.01)
    monkeypatch.setattr(Failures, "num_runs", 0)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return found


LOST = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_all_is_raised_in_all(store, capsys, rank: int) -> None:
    store.set(f"pyg_kd run 0 error {1 - rank}", "ValueError: of the other")
    with pytest.raises(ValueError, match="of this") as caught, failing_together(rank, 2):
        raise ValueError("of this")
    # The first process prints it, if nobody catches it; and any prints whatever comes later.
    sys.excepthook(ValueError, caught.value, None)
    assert ("of this" in capsys.readouterr().err) == (rank == 0)
    sys.excepthook(ValueError, ValueError("later"), None)
    assert "later" in capsys.readouterr().err
    assert not store.check(["pyg_kd run 0 parted"])


def test_an_error_of_the_first_alone_parts_them(store) -> None:
    with pytest.raises(ValueError, match="of this"), failing_together(0, 2):
        raise ValueError("of this")
    for rank in (0, 1):  # the other may wait for it, or be busy
        Failures.num_runs = 0
        with failing_together(rank, 2):
            assert Failures.running.left_behind == (rank == 1)
    with failing_together(1, 2):
        assert not Failures.running.left_behind  # the next run is another
    assert Failures.running is None


def test_an_error_of_another_alone_ends_it_and_is_raised_in_the_first(store) -> None:
    with pytest.raises(SystemExit) as caught, failing_together(1, 3):
        raise ValueError("of this")
    assert caught.value.code == 0
    Failures.num_runs = 0
    with (
        pytest.raises(RuntimeError, match=r"(?s)process 1 of 3 has failed:.*ValueError: of this"),
        failing_together(0, 3),
    ):
        raise LOST
    Failures.num_runs = 0
    with pytest.raises(SystemExit), failing_together(2, 3):
        raise LOST


def test_a_process_that_was_killed_says_nothing(store) -> None:
    with pytest.raises(RuntimeError, match="ended without a word"), failing_together(0, 2):
        raise LOST


def test_children_may_end_before_their_launcher(monkeypatch) -> None:
    monkeypatch.setattr(failures, "PATIENCE", 0.5)
    sleep = [sys.executable, "-c", "import time; time.sleep(0.2)"]
    children = [subprocess.Popen(sleep), subprocess.Popen([*sleep[:2], "input()"], stdin=-1)]
    failures.wait_for_children(children)
    assert [child.poll() for child in children] == [0, None]  # one waits for what never comes
    children[1].communicate("")


def test_one_process_has_errors_of_its_own() -> None:
    with pytest.raises(RuntimeError) as caught, failing_together(0, 1):
        raise LOST
    assert caught.value is LOST
