"""What a new run of a benchmark does to the stored results."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def merged(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from rows import merged

    return merged


def row(seeds, value):
    return {"seeds": seeds, "recall@50": value}


def test_fewer_seeds_do_not_replace_a_row(merged):
    stored = {"CD": row(3, 0.26), "RD": row(1, 0.24)}
    rows, kept = merged(stored, {"CD": row(1, 0.25), "RD": row(1, 0.2), "FTD": row(1, 0.2)})
    assert rows == {"CD": row(3, 0.26), "RD": row(1, 0.2), "FTD": row(1, 0.2)}
    assert kept == {"CD": "has 1 of the 3 stored seeds (--overwrite)"}
    assert stored == {"CD": row(3, 0.26), "RD": row(1, 0.24)}


def test_overwrite_replaces_it(merged):
    rows, kept = merged({"CD": row(3, 0.26)}, {"CD": row(1, 0.25)}, overwrite=True)
    assert rows == {"CD": row(1, 0.25)} and kept == {}


def test_a_row_nobody_asked_for_stays_even_with_overwrite(merged):
    stored = {"student alone": row(3, 0.22)}
    found = {"student alone": row(3, 0.23), "CD": row(3, 0.26)}
    rows, kept = merged(stored, found, {"CD"}, overwrite=True)
    assert rows == stored | {"CD": row(3, 0.26)}
    assert kept == {"student alone": "was not asked for"}
