"""Two checkouts of the package measured in turn, so that drift of the machine affects both.

A script that can be measured this way calls :func:`steps` in its child processes and
:class:`Checkout` in its parent process.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]

#: What begins a line for the parent process; everything else that is printed is passed over.
MARK = "step: "


class Clock:
    """Seconds, CPU seconds and peak memory of a step that begins when the clock is made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self.wall,
            "CPU seconds": time.process_time() - self.cpu,
            "peak GB": peak_memory(),
        }


def peak_memory() -> float:
    """The most memory that the process had at once, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def forget_peak() -> float:
    """Begin :func:`peak_memory` anew, and return the memory that the process has, in GB."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux, where it goes down to what is held
    return peak_memory()


def answer(row: dict[str, Any]) -> None:
    """Tell the parent process about a step."""
    print(MARK + json.dumps(row), flush=True)


def steps(package: Any) -> Iterator[None]:
    """In a child process: one iteration whenever the parent process asks for one.

    Args:
        package: The imported package, whose place is told first.
    """
    answer({"package": package.__file__})
    while sys.stdin.readline():
        yield


class Checkout:
    """A child process that imports the package from one checkout, and measures a step when asked.

    Args:
        root: The checkout, in which the package lies.
        script: A script that answers each of its :func:`steps`.
        options: Arguments of the script.
    """

    def __init__(self, root: Path, script: str, options: Sequence[str]) -> None:
        self.root, self.command = root.resolve(), [sys.executable, script, *options]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(self.root)},
        )

    def ready(self) -> None:
        """Wait until the first step can be asked for.

        Raises:
            RuntimeError: If the process ends, or has the package from somewhere else.
        """
        package = Path(self._read()["package"]).resolve()
        if self.root not in package.parents:
            self.close()
            raise RuntimeError(f"the package was imported from {package}, not from {self.root}")

    def step(self) -> dict[str, float]:
        """Have one step measured."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process, which ends its loop over :func:`steps`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                found: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return found
        raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.wait()}")


def in_turn(
    checkouts: Sequence[Checkout], count: int, budget: float = 0.0
) -> list[list[dict[str, float]]]:
    """The steps of every checkout, each of which has its turn as first and as last.

    Args:
        checkouts: Processes that were just started.
        count: Steps of each, the first one aside, which often makes what later ones use.
        budget: Go on, up to ten times ``count``, until the steps of one took so many CPU seconds.
    """
    found: list[list[dict[str, float]]] = [[] for _ in checkouts]
    for checkout in checkouts:
        checkout.ready()
    for turn in range(1 + 10 * count):
        order = range(len(checkouts)) if turn % 2 == 0 else reversed(range(len(checkouts)))
        for place in order:
            found[place].append(checkouts[place].step())
        spent = sum(row["CPU seconds"] for row in found[0][1:])
        if turn >= count and spent >= budget:
            break
    for checkout in checkouts:
        checkout.close()
    return found


def version(root: Path) -> str:
    """The short commit of a checkout, with a ``+`` if its files differ from it."""

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *command], check=True, capture_output=True, text=True
        ).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + "+" * bool(git("diff", "HEAD", "--", "pyg_kd"))
