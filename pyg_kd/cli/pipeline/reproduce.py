"""What ``reproduce`` does."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pyg_kd.cli.app import find
from pyg_kd.cli.console import note, show_json
from pyg_kd.cli.options.reproduce import Repeated
from pyg_kd.cli.parser import arguments
from pyg_kd.cli.pipeline.saved import SavedRun
from pyg_kd.cli.runs import Run
from pyg_kd.json_files import read_json
from pyg_kd.provenance import described, machine, versions

SAME, OTHER = 0, 1


def run_again(repeated: Repeated) -> int:
    """Repeat a run, compare, print, and return the exit code."""
    saved = SavedRun.open(Path(repeated.run).expanduser())
    saved.check_inputs()
    with tempfile.TemporaryDirectory() as folder:
        out = folder if repeated.out is None else repeated.out
        again = repeat(saved, out)
        differences = list(compare(results(saved.run), results(again)))
    here = {"versions": versions(), "machine": machine()}
    changed = {
        name: list(compare(flattened(saved.run.record.get(name, {})), flattened(now)))
        for name, now in here.items()
    }
    for name, found in changed.items():
        for entry in found:
            note(f"{name}: {entry['name']} was {entry['was']!r}, is {entry['is']!r}")
    show_json(
        {
            "run": str(saved.run.path),
            "same": not differences,
            "compared": len(results(saved.run)),
            "differences": differences,
            "changed": {name: found for name, found in changed.items() if found},
        }
    )
    return OTHER if differences else SAME


def repeat(saved: SavedRun, out: str) -> Run:
    """Run the command of a run once more; what it prints goes to standard error."""
    command = find(saved.command)
    options = saved.run.config | {"out": out, "overwrite": False}
    with redirect_stdout(sys.stderr):
        command(**arguments(command, options))
    return Run.open(out)


def results(run: Run) -> dict[str, Any]:
    """All that must be the same: metrics, and the digests of models and of the bundle's files."""
    found = {f"metrics/{name}": value for name, value in flattened(run.metrics).items()}
    for path in sorted(run.path.glob("*.safetensors")):
        found[path.name] = described(path)["sha256"]
    manifest = run.path / "bundle" / "manifest.json"
    if manifest.is_file():
        found |= flattened({"bundle": read_json(manifest)["files"]})
    return found


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Where two mappings differ, by name."""
    for name in {**before, **now}:
        was, found = before.get(name), now.get(name)
        if was != found:
            yield {"name": name, "was": was, "is": found}


def flattened(value: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a nested mapping, by path.

    Example:
        >>> flattened({"test": {"student": {"recall@20": 0.5}}})
        {'test/student/recall@20': 0.5}
    """
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            found |= {f"{name}/{key}": leaf for key, leaf in flattened(inner).items()}
        else:
            found[name] = inner
    return found
