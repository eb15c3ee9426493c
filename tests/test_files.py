from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pyg_kd import files
from pyg_kd.files import atomic_write


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replaces_a_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    for text in ("first", "second"):
        write(path, text)
        assert (path.read_text(), names(path.parent)) == (text, ["x.txt"])


def test_a_reader_sees_the_old_file_until_the_end(tmp_path):
    write(tmp_path / "x.txt", "old")
    with atomic_write(tmp_path / "x.txt") as temporary:
        temporary.write_text("half of the n")
        assert (tmp_path / "x.txt").read_text() == "old"
        assert temporary.stat().st_dev == tmp_path.stat().st_dev


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_alone(tmp_path, error):
    write(tmp_path / "x.txt", "old")
    with pytest.raises(type(error)), atomic_write(tmp_path / "x.txt") as temporary:
        temporary.write_text("half of the n")
        raise error
    assert ((tmp_path / "x.txt").read_text(), names(tmp_path)) == ("old", ["x.txt"])


def test_failed_flush_leaves_the_old_file_alone(tmp_path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError("no space left on device")

    write(tmp_path / "x.txt", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "x.txt", "new")
    assert ((tmp_path / "x.txt").read_text(), names(tmp_path)) == ("old", ["x.txt"])


def test_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write(tmp_path / "x.txt", "new")
    assert calls == ["file", "replace", "folder"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_mode_is_the_usual_one(tmp_path, umask):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").write_text("")
        write(tmp_path / "x.txt", "text")
        with atomic_write(tmp_path / "x.safetensors") as temporary:
            save_file({"a": torch.zeros(2)}, temporary)  # writes a private file
    finally:
        os.umask(before)
    expected = (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "x.txt").stat().st_mode == expected
    assert (tmp_path / "x.safetensors").stat().st_mode == expected


def test_mode_of_a_file_stays(tmp_path):
    write(tmp_path / "x.txt", "old")
    (tmp_path / "x.txt").chmod(0o640)
    write(tmp_path / "x.txt", "new")
    assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize("exists", [True, False])
def test_symlink_is_followed(tmp_path, exists):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "x.txt", tmp_path / "link.txt"
    if exists:
        target.write_text("old")
    link.symlink_to(target)
    write(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert (names(tmp_path), names(target.parent)) == (["link.txt", "store"], ["x.txt"])


def test_folders_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match=r"is not a regular file"):
            write(path, "text")
    assert names(tmp_path) == ["pipe"]


KILLED = """
import importlib.util, os, signal, sys
# The module alone: importing the package takes seconds.
spec = importlib.util.spec_from_file_location("files", sys.argv[3])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
with files.atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half of it")
    (temporary.parent / "what a library left").write_text("more")
    print(temporary, flush=True)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def other_process(path: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), what, str(files.__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_remains_of_killed_writers_do_not_add_up(tmp_path):
    path, seen = tmp_path / "x.txt", set()
    write(path, "old")
    for _ in range(3):
        with other_process(path, "kill") as process:
            seen.add(process.communicate()[0])
        assert process.returncode == -signal.SIGKILL
        assert path.read_text() == "old" and len(names(tmp_path)) == 2
    assert len(seen) == 1
    write(path, "new")
    assert (path.read_text(), names(tmp_path)) == ("new", ["x.txt"])


def test_writers_at_the_same_time_keep_apart(tmp_path):
    path = tmp_path / "x.txt"
    with other_process(path, "wait") as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        with atomic_write(path) as temporary:
            assert temporary.parent != theirs.parent
            temporary.write_text("ours")
        assert (path.read_text(), theirs.read_text()) == ("ours", "half of it")
        process.communicate("")
        assert process.returncode == 0
    assert (path.read_text(), names(tmp_path)) == ("half of it", ["x.txt"])
    with other_process(path, "wait") as first, other_process(path, "wait") as second:
        assert first.stdout is not None and second.stdout is not None
        assert first.stdout.readline() != second.stdout.readline()
        first.kill(), second.kill()
    assert len(names(tmp_path)) == 3
    write(path, "new")  # one writer removes what two have left
    assert names(tmp_path) == ["x.txt"]


def test_threads_and_readers_see_whole_files_only(tmp_path):
    path, stop, broken = tmp_path / "x.json", threading.Event(), []
    write(path, json.dumps([0] * 1000))

    def reader() -> None:
        while not stop.is_set():
            try:
                found = json.loads(path.read_text())
                assert len(found) == 1000 and len(set(found)) == 1
            except Exception as error:
                broken.append(error)

    def writer(number: int) -> None:
        for _ in range(20):
            write(path, json.dumps([number] * 1000))

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(4)]
    looking = threading.Thread(target=reader)
    looking.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.01)
    stop.set()
    looking.join()
    assert broken == [] and names(tmp_path) == ["x.json"]


def test_file_system_without_locks(tmp_path, monkeypatch):
    def unsupported(handle: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with atomic_write(tmp_path / "x.txt") as temporary:
        temporary.write_text("new")
        assert len(names(tmp_path)) == 1 and str(os.getpid()) in temporary.parent.name
    assert ((tmp_path / "x.txt").read_text(), names(tmp_path)) == ("new", ["x.txt"])


def test_more_writers_than_names(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WRITERS", 1)
    with atomic_write(tmp_path / "x.txt") as first, atomic_write(tmp_path / "x.txt") as second:
        first.write_text("1")
        second.write_text("2")
    assert ((tmp_path / "x.txt").read_text(), names(tmp_path)) == ("1", ["x.txt"])
