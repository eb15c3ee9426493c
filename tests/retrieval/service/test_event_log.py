from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.retrieval.service.event_log import (
    HEADER,
    Click,
    EventLog,
    Named,
    NotALog,
    Stock,
    Tail,
)

IDS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8")))
RECORDS = st.lists(
    st.builds(Click, st.integers(0, 9) | st.text(), IDS, st.floats(0, 2e9))
    | st.builds(Stock, IDS, st.booleans())
    | st.builds(Named, st.text(), IDS),
    max_size=5,
)


def _all(tail: Tail) -> list:
    return [record for records in tail.read() for record in records]


@given(parts=st.lists(RECORDS, max_size=4))
def test_what_is_appended_is_read_once_in_order(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("log") / "events"
    log = EventLog(path)
    tail, found = Tail(path), []
    for records in parts:
        log.append(records)
        new = _all(tail)
        assert new == records
        found += new
    assert _all(Tail(path)) == found and _all(tail) == []


def _records(count: int, start: int = 0) -> list:
    return [Click(n, [n, f"ü{n}"], 0.5) for n in range(start, start + count)]


def test_cut_anywhere_the_whole_records_before_are_kept(tmp_path):
    path = tmp_path / "events"
    EventLog(path).append(_records(3))
    data = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == 10]
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        whole = max(sum(end <= cut for end in ends) - 1, 0)
        if cut >= len(HEADER):
            assert _all(Tail(path)) == _records(whole)
        log = EventLog(path)
        log.append(_records(1, start=7))
        assert _all(Tail(path)) == _records(whole) + _records(1, start=7)
        assert Tail(path).damaged == 0


def test_a_changed_byte_costs_its_record_alone(tmp_path):
    path = tmp_path / "events"
    EventLog(path).append(_records(3))
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    start = len(lines[0]) + len(lines[1])
    for place in range(start, start + len(lines[2]) - 1):
        for bit in (1, 64):
            changed = bytearray(data)
            changed[place] ^= bit
            path.write_bytes(changed)
            tail = Tail(path)
            found = _all(tail)
            assert found == [_records(3)[0], _records(3)[2]], place
            assert tail.damaged >= 1


def test_a_record_is_read_only_when_all_of_it_is_there(tmp_path):
    path = tmp_path / "events"
    EventLog(path).append(_records(1))
    data = path.read_bytes()
    path.write_bytes(HEADER)
    tail = Tail(path)
    for cut in range(len(HEADER) + 1, len(data)):
        with path.open("ab") as file:
            file.write(data[cut - 1 : cut])
        assert _all(tail) == []
    with path.open("ab") as file:
        file.write(data[-1:])
    assert _all(tail) == _records(1)


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "notes"
    other.write_text("what I wanted to do today\n")
    for kind in (EventLog, Tail):
        with pytest.raises(ValueError, match="notes' is not a log of events"):
            kind(other)
    assert other.read_text() == "what I wanted to do today\n"
    with pytest.raises(OSError):
        EventLog(tmp_path)


def test_only_its_owner_can_read_it(tmp_path):
    EventLog(tmp_path / "events")
    assert stat.S_IMODE((tmp_path / "events").stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "events"
    log = EventLog(path)
    log.append(_records(1))
    before, write = path.read_bytes(), os.pwrite
    calls = iter([True, False])

    def fails(handle, data, place):
        if next(calls):
            return write(handle, bytes(data)[:5], place)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fails)
    with pytest.raises(OSError, match="No space"):
        log.append(_records(1, start=4))
    monkeypatch.undo()
    assert path.read_bytes() == before
    log.append(_records(1, start=5))
    assert _all(Tail(path)) == [*_records(1), *_records(1, start=5)]


def test_a_log_that_is_moved_away_is_begun_anew(tmp_path):
    path = tmp_path / "events"
    log = EventLog(path)
    log.append(_records(2))
    tail = Tail(path)
    assert len(_all(tail)) == 2 and not tail.replaced()
    path.rename(tmp_path / "old")
    assert tail.replaced()
    log.append(_records(1, start=5))
    assert tail.replaced() and _all(tail) == []
    assert _all(Tail(path)) == _records(1, start=5) and _all(Tail(tmp_path / "old")) == _records(2)
    path.write_bytes(HEADER)
    tail = Tail(path)
    log.append(_records(1))
    _all(tail)
    path.write_bytes(HEADER)
    assert tail.replaced()


def test_many_lines_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr("pyg_kd.retrieval.service.event_log.BLOCK", 64)
    path = tmp_path / "events"
    log = EventLog(path)
    log.append(_records(30))
    assert _all(Tail(path)) == _records(30)


WRITER = """
import sys
from pyg_kd.retrieval.service.event_log import Click, EventLog
log = EventLog(sys.argv[1])
for n in range(50):
    log.append([Click(f"{sys.argv[2]}-{n}", [n] * 50, 0.0)])
"""


def test_several_writers_and_readers(tmp_path):
    """Processes and threads append at once; everything arrives once, whole, in each one's order."""
    path = tmp_path / "events"
    log = EventLog(path)
    root = Path(__file__).parents[3]
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, str(number)], cwd=root)
        for number in range(2)
    ]
    found: list = []

    def follow() -> None:
        tail = Tail(path)
        while len(found) < 150:
            found.extend(_all(tail))
        assert tail.damaged == 0

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    for n in range(50):
        log.append([Click(f"here-{n}", [n], 0.0)])
    assert [process.wait(60) for process in processes] == [0, 0]
    reader.join(30)
    for writer in ("0", "1", "here"):
        mine = [record.user for record in found if str(record.user).startswith(f"{writer}-")]
        assert mine == [f"{writer}-{n}" for n in range(50)]


def _held() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_folder_that_was_away_leaves_no_descriptor_behind(tmp_path):
    """What opens meanwhile gets numbers that the log had; none of it is written to or closed."""
    path, away = tmp_path / "here" / "events", tmp_path / "away"
    path.parent.mkdir()
    log, held = EventLog(path), _held()
    log.append(_records(1))
    path.parent.rename(away)
    with pytest.raises(FileNotFoundError):
        log.append(_records(1, start=3))
    others = [open(tmp_path / f"other{n}", "w+b") for n in range(5)]  # noqa: SIM115
    away.rename(path.parent)
    log.append(_records(1, start=4))
    for n, file in enumerate(others):
        file.write(b"%d" % n)
        file.close()
        assert (tmp_path / f"other{n}").read_bytes() == b"%d" % n
    assert _all(Tail(path)) == [*_records(1), *_records(1, start=4)]
    del log
    assert _held() == held


@pytest.mark.parametrize("text", ["# shopping\n", "a list of what I want to buy\neggs\n"])
@pytest.mark.parametrize("moved", [True, False])
def test_a_foreign_file_is_never_written_to(tmp_path, text, moved):
    path = tmp_path / "events"
    log, held = EventLog(path), _held()
    log.append(_records(1))
    if moved:
        path.rename(tmp_path / "old")
    path.write_text(text)
    for _ in range(3):
        with pytest.raises(NotALog, match="events' is not a log of events"):
            log.append(_records(1))
    assert path.read_text() == text and _held() == held
    path.unlink()
    log.append(_records(1, start=2))
    assert _all(Tail(path)) == _records(1, start=2)


def test_what_is_written_while_the_file_is_moved_is_in_the_new_one_too(tmp_path, monkeypatch):
    path, sync = tmp_path / "events", os.fsync
    log = EventLog(path)

    def move(handle):
        sync(handle)
        monkeypatch.undo()
        path.rename(tmp_path / "old")

    monkeypatch.setattr(os, "fsync", move)
    log.append(_records(2))
    assert _all(Tail(path)) == _all(Tail(tmp_path / "old")) == _records(2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_were_forked_off_do_not_share_a_lock(tmp_path):
    program = WRITER.split("for n in")[0] + (
        "import os\n"
        "child = os.fork()\n"
        "for n in range(200):\n"
        "    log.append([Click(n, [n] * 50, float(child == 0))])\n"
        "assert child == 0 or os.waitpid(child, 0)[1] == 0\n"
    )
    path, root = tmp_path / "events", Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program, path], cwd=root, check=True, timeout=60)
    tail = Tail(path)
    assert len(_all(tail)) == 400 and tail.damaged == 0
