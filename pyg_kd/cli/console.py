"""What goes to the terminal: results on the standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

NAME = "pyg-kd"


def note(message: str) -> None:
    """Tell what is going on, on standard error."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Tell what may be wrong, in one line on standard error."""
    note(f"{NAME}: warning: {one_line(message)}")


def complain(message: str) -> None:
    """Tell what went wrong, in one line on standard error."""
    note(f"{NAME}: error: {one_line(message)}")


def one_line(message: str) -> str:
    """A message without line breaks.

    Example:
        >>> one_line("two   words")
        'two words'
    """
    return " ".join(str(message).split())


def show_json(value: Any) -> None:
    """Print a result as JSON on the standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def drop_stdout() -> None:
    """Let nothing more be written to a standard output that nobody reads, also at exit."""
    handle = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(handle, sys.stdout.fileno())
    except (OSError, ValueError):  # captured, or closed
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    finally:
        os.close(handle)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings for users, each once and in one line; not those for developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        # Of PyTorch, about the kind of tensor that propagation uses.
        warnings.filterwarnings("ignore", message="Sparse .* support is in beta")
        warnings.showwarning = _show
        yield


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    warn(str(message))
