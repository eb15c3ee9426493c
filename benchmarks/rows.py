"""Putting a new run's rows into results that are stored already."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

Rows = Mapping[str, dict[str, Any]]


def merged(
    stored: Rows, found: Rows, wanted: Collection[str] | None = None, *, overwrite: bool = False
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The rows to store, and of each new row that isn't taken the reason.

    A stored row gives way to a new one only if that was asked for and rests on at least as many
    seeds: a quick look at one seed must not undo hours of runs.

    Args:
        stored: Rows by name, each with its number of ``"seeds"``.
        found: The new rows.
        wanted: Stored rows that may be replaced; all with :obj:`None`.
        overwrite: Replace wanted rows by those of fewer seeds, too.
    """
    rows, kept = dict(stored), {}
    for name, row in found.items():
        before = stored.get(name)
        if before is None:
            rows[name] = row
        elif wanted is not None and name not in wanted:
            kept[name] = "was not asked for"
        elif row["seeds"] < before["seeds"] and not overwrite:
            kept[name] = f"has {row['seeds']} of the {before['seeds']} stored seeds (--overwrite)"
        else:
            rows[name] = row
    return rows, kept
