"""Parts are the same bytes whoever makes them, and whatever stops them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pyg_kd.locks import locked
from pyg_kd.shards import ShardError, open_shards, run_job, work

from .conftest import EXPECTED, Squares, content

FORK = multiprocessing.get_context("fork") if sys.platform == "linux" else None
linux = pytest.mark.skipif(FORK is None, reason="processes are forked on Linux only")


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def wait_for_parts(folder: Path, process) -> None:
    """Until there are three more, or all."""
    before = len(list(folder.glob("work/*.json")))
    until(lambda: len(list(folder.glob("work/*.json"))) > before + 2 or not process.is_alive())


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_any_number_of_workers_leaves_the_same_bytes(tmp_path, job, workers) -> None:
    assert run_job(job, tmp_path / "of" / "job", workers=workers)
    found = content(tmp_path / "of" / "job")
    manifest = found.pop("manifest.json")
    assert found == EXPECTED
    run_job(Squares(), tmp_path / "alone")
    assert content(tmp_path / "alone")["manifest.json"] == manifest


@linux
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_job_goes_on_to_the_same_bytes(tmp_path, workers) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    run_job(Squares(60), whole)
    for _ in range(2):
        slow = Squares(60, seconds=0.05)
        process = FORK.Process(target=run_job, args=(slow, folder), kwargs={"workers": workers})
        process.start()
        wait_for_parts(folder, process)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert not (folder / "manifest.json").exists()
    job = Squares(60)
    assert run_job(job, folder)
    assert len(job.made) < 20  # what was there stayed
    assert content(folder) == content(whole)


@linux
def test_workers_end_with_their_launcher(tmp_path) -> None:
    job = Squares(100, seconds=0.05)
    job.pids = tmp_path / "pids"
    job.pids.mkdir()
    process = FORK.Process(target=run_job, args=(job, tmp_path / "folder"), kwargs={"workers": 3})
    process.start()
    until(lambda: len(list(job.pids.iterdir())) == 3)
    pids = [int(path.name) for path in job.pids.iterdir()]
    assert process.pid not in pids and all(map(alive, pids))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    until(lambda: not any(map(alive, pids)))


@linux
def test_a_killed_worker_is_an_error_and_ends_the_others(tmp_path) -> None:
    job = Squares(60, seconds=0.05)
    job.pids = tmp_path / "pids"
    job.pids.mkdir()
    job.fault = lambda part: os.kill(os.getpid(), signal.SIGKILL) if part.number == 3 else None
    with pytest.raises(RuntimeError, match=r"a worker was ended by SIGKILL .* enough memory"):
        run_job(job, tmp_path / "folder", workers=2)
    assert not any(alive(int(path.name)) for path in job.pids.iterdir())
    assert run_job(Squares(60), tmp_path / "folder")  # and the rest is made later


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_workers_are_told(tmp_path, job, workers) -> None:
    def fail(part) -> None:
        if part.number == 2:
            raise ValueError("there is no square of a squirrel")

    job.fault = fail
    with pytest.raises(ValueError, match="no square of a squirrel"):
        run_job(job, tmp_path, workers=workers)
    assert not (tmp_path / "manifest.json").exists()
    with pytest.raises(ShardError, match="no complete shards"):
        open_shards(tmp_path, "squares")


def test_errors_of_other_kinds_are_told_in_words(tmp_path, job) -> None:
    def fail(part) -> None:
        raise ZeroDivisionError("nothing to divide by")

    job.fault = fail
    with pytest.raises(RuntimeError, match="ZeroDivisionError: nothing to divide by"):
        run_job(job, tmp_path, workers=2)


def test_damaged_parts_are_made_again(tmp_path, job) -> None:
    job.fault = lambda part: 1 / 0 if part.kind == "sums" else None
    with pytest.raises(ZeroDivisionError):
        run_job(job, tmp_path)
    for name, wrong in (
        ("squares-00000.parquet", b"[0, 1, 5]"),  # as long as it was
        ("squares-00001.parquet", b"[9, 16"),
        ("work/sum-2.txt", b"0"),
        ("work/squares-00003.parquet.json", b"{"),
    ):
        (tmp_path / name).write_bytes(wrong)
    again = Squares()
    assert run_job(again, tmp_path)
    assert len(again.made) == 6
    found = content(tmp_path)
    found.pop("manifest.json")
    assert found == EXPECTED


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_done_stays(tmp_path, job, workers) -> None:
    run_job(job, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = Squares()
    assert run_job(again, tmp_path, workers=workers)
    assert not again.made
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.parametrize("independent", [False, True])
def test_complete_shards_are_mended(tmp_path, job, independent) -> None:
    run_job(job, tmp_path)
    before = content(tmp_path)
    (tmp_path / "squares-00001.parquet").write_bytes(b"[9, 16, 24]")
    (tmp_path / "squares-00002.parquet").unlink()
    again = Squares()
    again.independent = independent
    if independent:
        again.fault = lambda part: None if part.kind == "squares" else 1 / 0
    assert run_job(again, tmp_path)
    assert content(tmp_path) == before
    wanted = ["squares-00001.parquet", "squares-00002.parquet"]
    assert again.made == (wanted if independent else [p.name for s in job.stages for p in s])


def test_another_request_is_refused(tmp_path, job) -> None:
    run_job(job, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    other = Squares(7, salt=1)
    with pytest.raises(ShardError, match="another request, with size=10 in place of 7"):
        run_job(other, tmp_path)
    assert run_job(other, tmp_path, overwrite=True)
    assert open_shards(tmp_path, "squares").request["salt"] == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "squares-00003.parquet").exists()


def test_foreign_files_of_these_names_are_refused(tmp_path, job) -> None:
    (tmp_path / "squares-00001.parquet").write_bytes(b"of somebody else")
    with pytest.raises(ShardError, match=r"something else \('squares-00001.parquet' for one\)"):
        run_job(job, tmp_path)


def test_two_at_work_in_one_folder_are_one_too_many(tmp_path, job, monkeypatch) -> None:
    monkeypatch.setattr(work, "GRACE", 0.1)
    with locked(tmp_path), pytest.raises(ValueError, match="another process is at work"):
        run_job(job, tmp_path)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_processes_that_know_their_rank(tmp_path, order) -> None:
    jobs = [Squares() for _ in order]
    done = [run_job(jobs[rank], tmp_path, rank=rank, world_size=3) for rank in order]
    assert done == [False, False, True]
    squares = [[name for name in job.made if name.startswith("squares")] for job in jobs]
    assert squares[0] == ["squares-00000.parquet", "squares-00003.parquet"]
    assert squares[1] == ["squares-00001.parquet"] and squares[2] == ["squares-00002.parquet"]
    found = content(tmp_path)
    found.pop("manifest.json")
    assert found == EXPECTED
    assert run_job(Squares(), tmp_path, rank=1, world_size=3)  # already there
    assert run_job(Squares(), tmp_path)


def test_processes_that_are_told_by_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, done in ((1, False), (0, True)):
        monkeypatch.setenv("RANK", str(rank))
        assert run_job(Squares(), tmp_path) is done
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ValueError, match="'RANK' in the environment must be an integer"):
        run_job(Squares(), tmp_path)


def test_processes_at_the_same_time(tmp_path) -> None:
    run_job(Squares(50), tmp_path / "alone")
    done: list[bool] = []

    def work(rank: int) -> None:
        job = Squares(50, seconds=0.002)
        done.append(run_job(job, tmp_path / "shared", rank=rank, world_size=5))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 5 and True in done
    assert content(tmp_path / "shared") == content(tmp_path / "alone")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "'workers' must be a positive integer"),
        ({"engine": "horses"}, "'engine' must be one of"),
        ({"rank": 0}, "'rank' and 'world_size' belong together"),
        ({"rank": 2, "world_size": 2}, r"'rank' must lie in 0..1 \(got 2\)"),
        ({"rank": 0, "world_size": 2, "workers": 2}, "must be left alone"),
        ({"rank": 0, "world_size": 2, "overwrite": True}, "must be left alone"),
    ],
)
def test_wrong_options(tmp_path, job, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        run_job(job, tmp_path / "folder", **options)
    assert not (tmp_path / "folder").exists()


def test_ray_is_named_where_it_is_missing(tmp_path, job, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ImportError, match=r"engine='ray' needs ray: pip install 'pyg_kd\[ray\]'"):
        run_job(job, tmp_path, engine="ray")


def test_progress_counts_rows_of_all_workers(tmp_path, capsys) -> None:
    run_job(Squares(), tmp_path, workers=2, progress=True, label="squaring")
    assert "squaring: 10/10 (100 %)" in capsys.readouterr().err
