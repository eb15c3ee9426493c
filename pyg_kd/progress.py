"""Progress on the standard error stream: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm
from typing_extensions import Self

#: Least seconds between two lines of a log file.
PAUSE = 15.0

LINE = "{desc}: {n_fmt}/{total_fmt} ({percentage:.0f} %) in {elapsed}, {remaining} left{postfix}"


class Progress:
    r"""Counts what is done, and shows it where ``shown``.

    A terminal and a notebook get a moving bar. Anything else gets whole lines, at most one every
    15 seconds, and at least one.

    Args:
        label: What is going on.
        total: How much there is to do.
        unit: Of what, in the singular.
        initial: How much is done already.
        shown: Print anything at all.
        keep: Leave the finished bar on the terminal.

    Example:
        >>> with Progress("ranking", 3, unit="row", shown=False) as progress:
        ...     for _ in range(3):
        ...         progress.update()
        >>> progress.done
        3
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        unit: str,
        initial: int = 0,
        shown: bool = True,
        keep: bool = True,
    ) -> None:
        self.label, self.total, self.unit, self.initial = label, total, unit, initial
        self.done, self.notes = initial, ""
        self.started = time.monotonic()
        self.printed: float | None = None
        self.lines = shown and not _moving()
        self.bar: Any = None
        if shown and not self.lines:
            self.bar = tqdm(
                desc=label, total=total, unit=unit, initial=initial, mininterval=0.3, leave=keep
            )

    def update(self, count: int = 1) -> None:
        """Note that ``count`` more are done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif self.lines and time.monotonic() - (self.printed or self.started) >= PAUSE:
            self._print()

    def note(self, **values: float) -> None:
        """Values to show from now on."""
        self.notes = ", ".join(f"{name}={value:.4g}" for name, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(self.notes, refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.lines and (self.printed is None or time.monotonic() - self.printed >= PAUSE):
            self._print()

    def _print(self) -> None:
        self.printed = time.monotonic()
        line = tqdm.format_meter(
            self.done,
            self.total,
            self.printed - self.started,
            prefix=self.label,
            unit=self.unit,
            postfix=self.notes,
            initial=self.initial,
            bar_format=LINE,
        )
        print(line, file=sys.stderr, flush=True)


def _moving() -> bool:
    """Whether a bar can move: on a terminal, and in a notebook."""
    in_notebook = any(base.__module__.startswith("tqdm.notebook") for base in tqdm.__mro__)
    return in_notebook or sys.stderr.isatty()
