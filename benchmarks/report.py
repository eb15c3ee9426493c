"""Timing, tables and result files, shared by all benchmarks."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The machine on which figures are measured."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def milliseconds(*functions: Callable[[], Any], runs: int = 7) -> list[float]:
    """Median milliseconds of each function, called in turn so that drift affects all equally."""
    for function in functions:
        function()
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, times in zip(functions, taken, strict=True):
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(times) for times in taken]


def measure_rows(
    name: str,
    script: str,
    options: list[str],
    rows: list[str],
    authors: dict[str, float],
    *,
    keep: bool,
) -> dict[str, dict[str, float]]:
    """Measure each row in its own process, so that peak memory is that of the row alone.

    All rows are printed next to the authors'.

    Args:
        name: Name of the results.
        script: A script that, given ``--only ROW``, prints that row as JSON with ``seconds`` and
            ``peak GB``.
        options: Further arguments of the script.
        rows: The rows to measure.
        authors: Seconds that the authors' code takes, by row.
        keep: Whether to keep all other rows of ``results/<name>.json``.
    """
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text())["ours"] if keep and path.exists() else {}
    for row in rows:
        command = [sys.executable, script, "--only", row, *options]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[row] = json.loads(output.strip().splitlines()[-1])
        print(row, found[row], flush=True)
    lines = []
    for row, values in found.items():
        theirs = authors.get(row)
        ratio = "-" if theirs is None else theirs / values["seconds"]
        lines.append([row, values["seconds"], theirs or "-", ratio, values["peak GB"]])
    table(["row", "seconds", "authors' code", "ratio", "peak GB"], lines)
    return found


def write(name: str, payload: dict[str, Any]) -> None:
    """Write ``results/<name>.json``, including the machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **payload}, indent=1) + "\n")
    print(f"wrote {path}")


def table(header: list[str], rows: list[list[Any]]) -> None:
    """Print rows as aligned columns."""
    cells = [header, *[[f"{c:.3g}" if isinstance(c, float) else str(c) for c in r] for r in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
