"""JSON files that are replaced as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyg_kd.files import atomic_write


def read_json(path: Path) -> dict[str, Any]:
    r"""The content of a JSON file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is damaged ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"'{path}' is damaged: it must hold an object")
    return found


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
