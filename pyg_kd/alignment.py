"""Tables of text, to be read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells below each other: the first column to the left, the others to the right.

    Example:
        >>> print(aligned([["model", "bytes"], ["als", "1,600"]]))
        model  bytes
        als    1,600
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )
