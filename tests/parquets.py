"""Parquet files that are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest


def damaged_parquet(path: Path, *, cut: bool = False) -> None:
    """Write a table of users and items with a wrong bit in a page, or else without its end."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    ids = pyarrow.array(range(2**40, 2**40 + 500))
    options = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    parquet.write_table(pyarrow.table({"user": ids, "item": ids}), path, **options)
    content = bytearray(path.read_bytes())
    content[content.index((2**40 + 100).to_bytes(8, "little"))] ^= 1
    path.write_bytes(content[:-9] if cut else content)
