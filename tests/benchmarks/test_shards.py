"""The figures on the page about shards are those that were measured."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_says_what_was_measured() -> None:
    page = (ROOT / "docs" / "how_to" / "shards.md").read_text()
    found = json.loads((ROOT / "benchmarks" / "results" / "shards.json").read_text())
    measured = [
        f"| {width} | {name} | {row['CPU seconds']:.1f} | {row['peak GB']:.2f} |"
        for width, rows in found["widths"].items()
        for name, row in rows.items()
    ]
    assert [line for line in page.splitlines() if line in measured] == measured
    for rows in found["widths"].values():
        lists = {row["lists"][0] for name, row in rows.items() if not name.startswith("items'")}
        assert len(lists) == 1  # bit by bit the same
