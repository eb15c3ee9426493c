from __future__ import annotations

import io
import sys

import pytest

from pyg_kd import progress
from pyg_kd.progress import Progress


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    monkeypatch.setattr(progress, "time", clock := Clock())
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(text: str) -> list[str]:
    assert "\r" not in text and (not text or text.endswith("\n"))
    return text.splitlines()


def test_a_log_file_gets_a_line_every_15_seconds(clock, capsys):
    with Progress("student MF", 1000, unit="batch") as bar:
        for step in range(100):
            clock.now += 1
            bar.update(10)
            bar.note(loss=step / 4)
    found = lines(capsys.readouterr().err)
    # The last one would come 10 seconds after the one before it.
    assert [line.split()[2] for line in found] == [f"{150 * n}/1000" for n in range(1, 7)]
    assert found[1] == "student MF: 300/1000 (30 %) in 00:30, 01:10 left, loss=7"


def test_a_short_run_is_one_line(clock, capsys):
    with Progress("teacher MF", 5, unit="batch") as bar:
        bar.update(5)
        bar.note(loss=0.123456, seconds=3)
    assert lines(capsys.readouterr().err) == [
        "teacher MF: 5/5 (100 %) in 00:00, ? left, loss=0.1235, seconds=3"
    ]


def test_a_slow_step_is_shown_when_it_ends(clock, capsys):
    with Progress("MF", 2, unit="batch") as bar:
        for _ in range(2):
            clock.now += 60
            bar.update()
    assert len(lines(capsys.readouterr().err)) == 2


def test_a_continued_run_starts_where_it_was(clock, capsys):
    with Progress("MF", 100, unit="batch", initial=50) as bar:
        clock.now += 20
        bar.update(10)
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith("MF: 60/100 (60 %) in 00:20, 01:20 left")


def test_an_error_passes(clock, capsys):
    with pytest.raises(KeyError), Progress("MF", 3, unit="batch") as bar:
        bar.update()
        raise KeyError("inside")
    assert lines(capsys.readouterr().err)[0].startswith("MF: 1/3")


def test_silence(clock, capsys):
    with Progress("MF", 3, unit="batch", shown=False) as bar:
        clock.now += 100
        bar.update(3)
        bar.note(loss=1.0)
    assert (bar.done, capsys.readouterr()) == (3, ("", ""))


@pytest.mark.parametrize("keep", [True, False])
def test_a_terminal_gets_a_bar(monkeypatch, keep):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress("student MF", 10, unit="batch", keep=keep) as bar:
        bar.note(loss=0.5)
        bar.update(10)
    assert "\r" in terminal.getvalue()
    assert ("student MF: 100%" in terminal.getvalue() and "10/10" in terminal.getvalue()) == keep
