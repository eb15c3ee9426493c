"""Reading text files that hold one list of integers a line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class AdjacencyLists(NamedTuple):
    """The lines of a file: first number, how many follow it, and all that follow, in order."""

    head: IntArray
    size: IntArray
    value: IntArray

    @property
    def row(self) -> IntArray:
        """The line of each entry of ``value``, int64."""
        return np.repeat(np.arange(self.size.size), self.size)


def read_lists(path: str | os.PathLike[str]) -> AdjacencyLists:
    r"""Read a file of lines ``head value value ...``.

    Blank lines are skipped; a line may hold nothing but its head. Any mix of
    blanks, tabs and line ends separates the numbers.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is empty or holds anything but non-negative integers of at
            most 18 digits, all of which int64 holds.
    """
    content = Path(path).read_bytes()
    byte = np.frombuffer(content, dtype=np.uint8)
    digit = (byte >= ord("0")) & (byte <= ord("9"))
    stray = ~digit & ~np.isin(byte, np.frombuffer(b" \t\r\n", dtype=np.uint8))
    if stray.any():
        at = int(stray.argmax())
        line = content.count(b"\n", 0, at) + 1
        raise ValueError(
            f"'{path}' must hold non-negative integers (got {chr(content[at])!r} on line {line})"
        )
    if not digit.any():
        raise ValueError(f"'{path}' is empty")
    starts = digit.copy()
    starts[1:] &= ~digit[:-1]
    line_of = np.cumsum(byte == ord("\n"))[starts]
    _refuse_long(path, byte, digit, starts, line_of)
    number: IntArray = np.fromstring(content.decode("ascii"), dtype=np.int64, sep=" ")
    is_head = np.ones(line_of.size, dtype=bool)
    is_head[1:] = line_of[1:] != line_of[:-1]
    first = np.flatnonzero(is_head)
    size = np.diff(first, append=line_of.size) - 1
    return AdjacencyLists(number[first], size.astype(np.int64), number[~is_head])


def _refuse_long(
    path: str | os.PathLike[str],
    byte: npt.NDArray[np.uint8],
    digit: npt.NDArray[np.bool_],
    starts: npt.NDArray[np.bool_],
    line_of: IntArray,
) -> None:
    """Refuse integers of more than 18 digits, which NumPy would read as another one."""
    first = np.flatnonzero(starts)
    digits = np.add.reduceat(digit, first, dtype=np.int64)
    if digits.max() > 18:
        at = int(digits.argmax())
        found = bytes(byte[first[at] : first[at] + digits[at]]).decode()
        raise ValueError(
            f"'{path}' must hold integers of at most 18 digits (got {found} "
            f"on line {line_of[at] + 1})"
        )
