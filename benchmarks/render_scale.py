"""Write ``docs/scale.md`` from ``benchmarks/results/scale.json``.

    python benchmarks/render_scale.py

Every figure of the page is measured, in that file, or computed here from what is measured. The
plan's sizes, machines and counts are below.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from render_parts import machine, table
from report import RESULTS

PAGE = RESULTS.parents[1] / "docs" / "scale.md"
TEMPLATE = Path(__file__).with_name("scale.md.template")

#: What is planned for.
USERS, ITEMS, EDGES = 10**8, 10**7, 10**10
STUDENT, TEACHER, LISTED, PLACES = 20, 64, 100, 80
#: Machines by name: cores of all together.
MACHINES = {"one of 96 cores, 768 GB": 96, "16 of 16 cores, 128 GB": 256}

Row = dict[str, float]


class Unit(NamedTuple):
    """What a stage costs by the piece."""

    stage: str
    of: str
    #: Pieces of a measured row.
    count: Callable[[Row, dict[str, Any]], float]
    #: Pieces of the plan, where it takes this stage once.
    planned: float
    key: str = "CPU seconds"


UNITS = (
    Unit("split", "an edge", lambda row, _: row["edges"], EDGES),
    Unit("edges sorted by user and item", "an edge", lambda row, _: row["edges"], EDGES),
    Unit("epoch", "an edge", lambda row, _: row["edges"], EDGES),
    Unit(
        "epoch of RRD", "a place of the list of an edge's user",
        lambda row, _: row["edges"] * PLACES, float(EDGES) * PLACES,
    ),
    Unit(
        "epoch of RRD", "an edge or a listed item, to bind",
        lambda row, of: row["edges"] + row["users"] * of["listed"],
        float(EDGES) + USERS * LISTED, "bind",
    ),
    Unit("epoch of SoftLabel", "a user", lambda row, _: row["users"], USERS),
    Unit(
        "extraction", "a score, width 64",
        lambda row, of: of["ranked users"] * row["items"], float(USERS) * ITEMS,
    ),
    Unit(
        "evaluation", "a score, width 20",
        lambda row, of: of["ranked users"] * row["items"], 1e5 * ITEMS,
    ),
)  # fmt: skip


def last_row(result: dict[str, Any], stage: str) -> Row | None:
    """Of the largest graph that a stage was measured on."""
    rows = result["stages"].get(stage, {}).get("rows", [])
    return rows[-1] if rows else None


def nanoseconds(result: dict[str, Any], unit: Unit) -> float | None:
    """Of a piece, on the largest graph."""
    row = last_row(result, unit.stage)
    return None if row is None else 1e9 * row[unit.key] / unit.count(row, result)


def sizes(found: dict[str, Any]) -> list[float]:
    """Edges of the graphs that stages were run on, smallest first."""
    return sorted({row["edges"] for of in found.values() for row in of["rows"]})


def by_size(found: dict[str, Any], rows: list[Row], key: str, digits: int) -> list[str]:
    """A value of each graph, where a stage was run on it."""
    values = {row["edges"]: f"{row[key]:,.{digits}f}" for row in rows if key in row}
    return [values.get(edges, "-") for edges in sizes(found)]


def header(found: dict[str, Any]) -> list[str]:
    """The graphs by their edges."""
    return [f"{edges / 1e6:.1f} M" for edges in sizes(found)]


def grown(found: dict[str, Any]) -> str:
    """Seconds and memory by size, with the exponents."""
    rows = []
    for name, of in found.items():
        seconds, power = by_size(found, of["rows"], "CPU seconds", 1), of["exponent"]
        peak = max(row["peak GB"] for row in of["rows"])
        rows.append([name, *seconds, "-" if power is None else f"{power:.2f}", f"{peak:.1f}"])
    return table(["Stage", *header(found), "Exponent", "Peak GB, at most"], rows)


def stages(result: dict[str, Any]) -> str:
    """Where users and items grow with the edges."""
    return grown(result["stages"])


def fixed(result: dict[str, Any]) -> str:
    """Where only the edges grow."""
    found = result.get("fixed", {})
    if not found:
        return "Not measured yet."
    row = next(iter(found.values()))["rows"][0]
    return f"{row['users']:,} users, {row['items']:,} items:\n\n{grown(found)}"


def batches(result: dict[str, Any]) -> str:
    """What a batch takes, by size."""
    labels = (("ms a batch", "ms a batch", 1), ("seconds before the epoch", "bind", 1),
              ("batches run", "batches run", 0), ("batches of an epoch", "batches", 0))  # fmt: skip
    rows = [
        [f"{name}: {label}", *by_size(result["stages"], found["rows"], key, digits)]
        for name, found in result["stages"].items() if name.startswith("epoch")
        for label, key, digits in labels
    ]  # fmt: skip
    return table(["", *header(result["stages"])], rows)


def equal_edges(result: dict[str, Any]) -> str:
    """What more users cost."""
    found = result.get("users", {}).get("epoch", [])
    if not found:
        return "Not measured yet."
    rows = [
        [f"{row['users']:,}", f"{row['edges'] / 1e6:.1f} M", f"{row['ms a batch']:.1f}",
         f"{row['CPU seconds']:.1f}", f"{row['CPU seconds'] / before['CPU seconds']:.2f}"]
        for row, before in zip(found, [found[0], *found], strict=False)
    ]  # fmt: skip
    return table(["Users", "Edges", "ms a batch", "CPU seconds of an epoch", "Ratio"], rows)


def against(result: dict[str, Any]) -> str:
    """Beside an older commit, in one run."""
    rows = [
        [name, f"{both['before']['CPU seconds']:.1f}", f"{both['now']['CPU seconds']:.1f}",
         f"{both['before']['CPU seconds'] / both['now']['CPU seconds']:.1f}"]
        for name, both in result.get("against", {}).items() if all(both.values())
    ]  # fmt: skip
    names = ["Stage", "Commit eb80552, CPU seconds", "Now", "Ratio"]
    return table(names, rows) if rows else "Not measured yet."


def units(result: dict[str, Any]) -> str:
    """What a piece costs."""
    rows = []
    for unit in UNITS:
        found = nanoseconds(result, unit)
        rows.append([unit.stage, unit.of, "not measured" if found is None else f"{found:,.2f}"])
    return table(["Stage", "Of", "Nanoseconds"], rows)


def memory(_: dict[str, Any]) -> str:
    """Bytes, counted from the types."""
    rows_ = USERS + ITEMS
    trained = "weights, two moments, int32 of the last step and of a place"
    counted = [
        ("student, served in int8", f"{STUDENT + 2} bytes a row", rows_ * (STUDENT + 2)),
        ("student, trained", trained, rows_ * (12 * STUDENT + 8)),
        ("teacher, width 64, served", "float32", rows_ * 4 * TEACHER),
        ("teacher, width 64, trained", trained, rows_ * (12 * TEACHER + 8)),
        ("edges", "two int64", EDGES * 16),
        ("edges by user", "int64", EDGES * 8),
        ("lists of 100", "int32", USERS * 4 * LISTED),
        ("tables of RRD to draw from", "int64 an edge or a listed item",
         (EDGES + USERS * LISTED) * 8),
    ]  # fmt: skip
    return table(["What", "Of", "GB"], [[a, b, f"{n / 1e9:,.0f}"] for a, b, n in counted])


def plan(result: dict[str, Any]) -> str:
    """Core hours, and hours of the machines."""
    rows = []
    for unit in UNITS:
        found = nanoseconds(result, unit)
        if found is None:
            rows.append([f"{unit.stage}, {unit.of}", f"{unit.planned:.0e}", "not measured",
                         *("-" for _ in MACHINES)])  # fmt: skip
            continue
        hours = unit.planned * found / 1e9 / 3600
        shared = (f"{hours / cores:,.1f}" for cores in MACHINES.values())
        pieces = f"{unit.planned:.0e}".replace("e+", "e")
        rows.append([f"{unit.stage}, {unit.of}", pieces, f"{hours:,.0f}", *shared])
    names = ["Stage", "Pieces", "Core hours", *(f"Hours on {name}" for name in MACHINES)]
    return table(names, rows)


def page(result: dict[str, Any]) -> str:
    """``docs/scale.md``."""
    parts = {
        "sizes": ", ".join(f"{edges / 1e6:.1f}" for edges in sizes(result["stages"])),
        "batch": f"{result['batch']:,}",
        "ranked": f"{result['ranked users']:,}",
        "machine": machine(result),
        **{f.__name__: f(result).rstrip("\n")
           for f in (stages, fixed, batches, equal_edges, against, units, memory, plan)},
    }  # fmt: skip
    return Template(TEMPLATE.read_text()).substitute(parts)


def main() -> None:
    result = json.loads((RESULTS / "scale.json").read_text())
    PAGE.write_text(page(result))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
