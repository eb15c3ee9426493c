"""The code on the pages of the documentation, and how to run it without a notebook."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """All pages, the generated ones and the build left out."""
    found = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    return sorted(found)


def cells(path: Path) -> list[str]:
    """The executed cells of a page, without their options, and without those meant to fail."""
    return [
        "".join(line for line in cell.splitlines(keepends=True) if not line.startswith(":"))
        for cell in CELL.findall(path.read_text())
        if "raises-exception" not in cell
    ]


def blocks(path: Path) -> list[str]:
    """The Python of a page that is no notebook."""
    return BLOCK.findall(path.read_text())


def run(code: list[str], path: Path) -> dict[str, Any]:
    """Run pieces of code one after another, and return the names they leave."""
    sys.path.insert(0, str(DOCS / "_ext"))
    names: dict[str, Any] = {"__name__": path.stem}
    try:
        for piece in code:
            exec(compile(piece, str(path), "exec"), names)
    finally:
        sys.path.remove(str(DOCS / "_ext"))
    return names
