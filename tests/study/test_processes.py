from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyg_kd.study.processes import Processes, RunFailed
from pyg_kd.study.records import RECORD, USERS, Record
from pyg_kd.study.schema import Dataset
from pyg_kd.study.worker import Job
from tests.study.tiny import CONFIG, conduct, tiny

ROOT = Path(__file__).parents[2]

#: Runs the study of a file, as the command does.
PROGRAM = """
import sys
from pyg_kd.study.conducting import run_study
if __name__ == "__main__":
    results = run_study(sys.argv[1], sys.argv[2], jobs=2, progress=False)
    print(results.about["missing"], results.about["failed"])
"""


def start(config: Path, out: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(config), str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def records(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob(f"runs/*/{RECORD}")}


def alive(session: int) -> list[str]:
    """The processes of a session."""
    found = subprocess.run(
        ["ps", "-s", str(session), "-o", "args="], capture_output=True, text=True
    )
    return [line for line in found.stdout.splitlines() if "defunct" not in line]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "setsid"), reason="needs POSIX processes")
def test_a_killed_study_goes_on_and_trains_nothing_twice(tmp_path: Path) -> None:
    config = tiny(seeds=[0, 1])
    config["worlds"]["mf"]["student"]["trainer"] |= {"max_epochs": 60, "evaluate_every": 20}
    path, out = tmp_path / "tiny.yaml", tmp_path / "out"
    path.write_text(json.dumps(config))  # JSON is YAML
    process = start(path, out)
    deadline = time.monotonic() + 120
    while len(records(out)) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    while alive(process.pid):  # its runs end themselves
        assert time.monotonic() < deadline, alive(process.pid)
        time.sleep(0.05)
    before = records(out)
    assert len(before) >= 2
    process = start(path, out)
    printed, errors = process.communicate(timeout=120)
    assert printed.split() == ["0", "{}"], errors
    after = records(out)
    for key, text in before.items():  # tested since then, and not trained again
        assert json.loads(after[key])["cpu_seconds"] == json.loads(text)["cpu_seconds"]
    whole = conduct(config, tmp_path / "whole")
    assert {record.key for record in whole} == set(after)
    for record in whole.finalists():
        mine, other = (folder / "runs" / record.key / USERS for folder in (out, whole.path))
        assert mine.read_bytes() == other.read_bytes()


def test_what_goes_wrong_in_a_process_is_told(tmp_path: Path) -> None:
    results = conduct(CONFIG, tmp_path / "study", methods=["student alone"], seeds=[0])
    record = results.record("made", "mf", "student alone", 0)
    wrong = Record(**{**vars(record), "recipe": {**record.recipe, "split": "0" * 64}})
    data = results.config["datasets"]["made"]
    job = Job("train", tmp_path, wrong, Dataset(**data))
    executor = Processes()
    with pytest.raises(RunFailed, match=r"ValueError: the split has the digest .* is of 0000"):
        executor(job)
    executor.close()
    with pytest.raises(RunFailed, match="the study was stopped"):
        executor(job)
