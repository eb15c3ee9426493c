"""The command line ``pyg-kd``: train, distil, evaluate, recommend, export, measure, serve."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    r"""Run a command and return its exit code.

    Args:
        argv: The words after ``pyg-kd``; those of the process by default.

    Returns:
        0 if all went well, 1 if ``reproduce`` or ``study`` found a difference or a run failed, 2
        after an error, 130 after Ctrl-C.

    Example:
        >>> main(["train", "--epochs", "none"])
        2
    """
    from pyg_kd.cli.app import run

    return run(argv)
