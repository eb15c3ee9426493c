"""What holds for every command: help, versions, errors, exit codes, interruptions."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import pyg_kd
from pyg_kd.cli import app
from pyg_kd.cli.app import COMMANDS

PYTHON = [sys.executable, "-m", "pyg_kd.cli"]


def python(code, *words):
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_help_names_every_command(run):
    result = run("--help")
    assert result.code == 0 and result.err == ""
    for name in COMMANDS:
        assert f"\n  {name} " in result.out
    assert run("-h").out == run("help").out == result.out


def test_without_a_command_the_help_is_an_error(run):
    result = run()
    assert result.code == 2 and result.out.startswith("usage: pyg-kd COMMAND")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run, name):
    result = run(name, "--help")
    assert result.code == 0 and result.out.startswith(f"usage: pyg-kd {name} ")
    assert "--config" in result.out and "--print-config" in result.out
    assert "_" not in "".join(w for w in result.out.split() if w.startswith("--"))


def test_version(run):
    assert run("--version").out == f"pyg-kd {pyg_kd.__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from pyg_kd.cli import main;"
        "heavy = {'torch', 'torch_geometric', 'pandas', 'numpy', 'pyarrow', 'scipy'};"
        "[main([*words.split(), '--help']) for words in sys.argv[1:]]; main(['--version']);"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = python(code, "", *COMMANDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == 1 + len(COMMANDS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "there is no command 'trian', did you mean 'train'?"),
        (["train"], "INTERACTIONS and --out must be given (see 'pyg-kd train --help')"),
        (["train", "x.csv", "--out", "y", "--epochs", "many"],
         "--epochs must be an integer or null (got 'many') (see 'pyg-kd train --help')"),
        (["train", "x.csv", "--out", "y", "--epoch", "3"],
         "there is no option --epoch, did you mean --epochs? (see 'pyg-kd train --help')"),
        (["train", "x.csv", "y.csv", "--out", "y"],
         "'y.csv' belongs to no option (see 'pyg-kd train --help')"),
        (["train", "x.csv", "--out", "y", "--split", "half"],
         "--split must be user, leave-one-out or temporal (got 'half') "
         "(see 'pyg-kd train --help')"),
        (["train", "no.csv", "--out", "y"],
         "'interactions' must be a file or one of gowalla, yelp2018, amazon-book, "
         "movielens-100k, citeulike, synthetic (got 'no.csv')"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_code_2(run, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result == (2, "", f"pyg-kd: error: {expected}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--debug", "train"], ["train", "--debug"]])
def test_debug_shows_where_an_error_came_from(run, words):
    result = run(*words)
    assert result.code == 2 and "Traceback" in result.err
    assert "Traceback" not in run("train").err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("two\nlines"), "two lines"),
        (KeyError("name"), "KeyError: 'name'"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"),
         "No such file or directory: 'a.csv'"),
        (MemoryError(), "out of memory"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_whatever_happens_is_told_in_one_line(run, monkeypatch, error, expected):
    def fail(*_):
        raise error

    monkeypatch.setattr(app, "_run", fail)
    assert run("train") == (2, "", f"pyg-kd: error: {expected}\n")


def test_an_interruption(run, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "_run", fail)
    assert run("train") == (130, "", "pyg-kd: interrupted\n")


def test_ctrl_c_in_a_process():
    # A shell lets what it starts in the background ignore the signal.
    code = (
        "import signal, sys; from pyg_kd.cli import app, main;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "app._run = lambda words: signal.raise_signal(signal.SIGINT);"
        "sys.exit(main(['train']))"
    )
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "pyg-kd: interrupted\n")


def test_nobody_reads_the_result():
    # The pipe is closed before anything is written to it.
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*PYTHON, "--help"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
