"""Finds the command, runs it, and turns whatever happens into an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import getdoc

from pyg_kd.cli.console import NAME, complain, drop_stdout, note, plain_warnings

#: A command is the function of its name in the module of its name, which imports nothing heavy.
COMMANDS = (
    "train", "distill", "tune", "evaluate", "recommend", "extract", "export", "latency", "serve",
    "reproduce", "study",
)  # fmt: skip

OK, ERROR, INTERRUPTED = 0, 2, 130

Command = Callable[..., int | None]


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with plain_warnings():
            return _run(words)
    except KeyboardInterrupt:
        code = INTERRUPTED
        note(f"{NAME}: interrupted")
    except BrokenPipeError:  # whoever read the results has had enough
        drop_stdout()
        return OK
    except Exception as error:
        code = ERROR
        complain(_message(error))
        if debug:
            traceback.print_exc()
    return code


def find(name: str) -> Command:
    """The function behind a command.

    Raises:
        ValueError: If there is no such command.
    """
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        hint = f", did you mean '{near[0]}'?" if near else f": one of {', '.join(COMMANDS)}"
        raise ValueError(f"there is no command '{name}'{hint}")
    command: Command = getattr(import_module(f"pyg_kd.cli.{name}"), name)
    return command


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return OK if words else ERROR
    if words[0] == "--version":
        print(_version())
        return OK
    command = find(words[0])
    from pyg_kd.cli.parser import parse

    arguments = parse(command, words[1:])
    if arguments is None:  # it asked for help or for its configuration
        return OK
    code = command(**arguments)
    sys.stdout.flush()
    return OK if code is None else code


def _overview() -> str:
    lines = [f"  {name:11}{_summary(find(name))}" for name in COMMANDS]
    return "\n".join(
        [
            f"usage: {NAME} COMMAND [options]",
            "",
            "Graph recommenders, distilled: from a table of interactions to a served student.",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            f"  --help     show this text; '{NAME} COMMAND --help' tells about a command",
            "  --version  show the version",
            "  --debug    show where an error came from",
        ]
    )


def _summary(command: Command) -> str:
    return (getdoc(command) or "").partition("\n")[0].removesuffix(".")


def _version() -> str:
    return f"{NAME} {import_module('pyg_kd').__version__}"


def _message(error: Exception) -> str:
    """What an error says; its kind as well, where it says too little."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.strerror}: '{os.fspath(error.filename)!s}'"
    if isinstance(error, MemoryError):
        return f"out of memory ({text})" if text else "out of memory"
    told = isinstance(error, (ValueError, TypeError, ImportError, OSError, RuntimeError))
    return text if told and text else f"{type(error).__name__}: {text}"
