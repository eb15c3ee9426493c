"""The page of users and items that came after training, from ``results/cold_start.json``."""

from __future__ import annotations

from typing import Any

from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell

TEACHER, ALONE, POPULAR = "teacher", "student alone", "popularity"
NAMES = {"citeulike": "CiteULike", "movielens-100k": "MovieLens-100K"}

COLD = "warm users, cold items"
#: Recall below which one can't speak of finding.
HARDLY = 0.05

TEXT = """\
Does a distilled student keep what its teacher knows for those whom neither has seen? A tenth of the
users and a tenth of the items are taken out before anything is trained, and get vectors afterwards:
users by fold-in from some of their items, items from their first users or their features. All
numbers are Recall@{k}, means over seeds; every seed has its own split, its own teacher of width 200
and its own students of width 20. In brackets, what a student keeps of its teacher's."""

KNOWN = """\
New users by how many of their items are known; the same users and targets in all columns, and warm
items alone. Nobody's vector is known at 0 items: everyone gets the mean of the trained ones."""

WORLD = """\
All users and items in one ranking, five items known of a cold user. A cold item is placed by its
{kind}."""

ALONE_RANKED = """\
The cold items against each other alone, placed by their {kind}."""


def section(result: dict[str, Any]) -> Section:
    """The page."""
    parts = [part(name, of) for name, of in result["data"].items()]
    return Section("Cold start", TEXT.format(k=result["k"]), parts=parts)


def part(name: str, found: dict[str, Any]) -> Section:
    """One data set: new users, then new users and items together."""
    shots = found["k-shot"]
    counts = [count for count in shots[TEACHER] if count != POPULAR]
    tables = [_table(shots, counts, KNOWN.replace("\n", " "))]
    for title, rows in found.items():
        if title in ("seeds", "k-shot"):
            continue
        kind, _, alone = title.partition(" of a cold item")
        kind = kind.replace("1 user", "first user").replace("5 users", "first five users")
        text = ALONE_RANKED if alone else WORLD
        groups = [group for group in rows[TEACHER] if not alone or group != "all"]
        tables.append(_table(rows, groups, text.format(kind=kind).replace("\n", " ")))
    return Section(NAMES[name], _answer(found), tables, [_curves(name, shots, counts)])


def _table(rows: dict[str, Any], columns: list[str], caption: str) -> Table:
    cells: list[list[Cell]] = [
        [row, *(_cell(of[c]["value"], rows[TEACHER][c]["value"], row) for c in columns)]
        for row, of in rows.items()
    ]
    return Table(["Model", *(column.capitalize() for column in columns)], cells, caption)


def _cell(value: float, teacher: float, row: str) -> str:
    kept = f" ({100 * value / teacher:.0f} %)" if row != TEACHER and teacher else ""
    return f"{value:.4f}{kept}"


def _curves(name: str, shots: dict[str, Any], counts: list[str]) -> Figure:
    popular = shots[TEACHER][POPULAR]["value"]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for place, (row, of) in enumerate(shots.items()):
            style = "--" if row == TEACHER else "-"
            values = [of[count]["value"] for count in counts]
            spread = [of[count]["deviation"] or 0.0 for count in counts]
            axes.errorbar(counts, values, spread, fmt=f"o{style}", color=f"C{place}", label=row)
        axes.axhline(popular, lw=1, ls=":", color="#8c8c8c", label="most popular")
        axes.set_xlabel("items known of a new user")
        axes.set_ylabel("Recall@20")
        canvas.legend(loc="outside lower center", ncols=3, fontsize=9)

    values = {row: [f"{of[c]['value']:.4f}" for c in counts] for row, of in shots.items()}
    said = "; ".join(f"{row} {', '.join(of)}" for row, of in values.items())
    return Figure(
        f"cold-start-{name}",
        draw,
        "Recall for new users by how many of their items are known; bars are standard deviations "
        "over seeds.",
        f"Recall for new users at {', '.join(counts)}: {said}; most popular {popular:.4f}.",
        size=(6.0, 4.2),
    )


def _answer(found: dict[str, Any]) -> str:
    """What the numbers say, in sentences that follow from them."""
    shots = found["k-shot"]
    counts = [count for count in shots[TEACHER] if count != POPULAR]
    popular = shots[TEACHER][POPULAR]["value"]
    students = [row for row in shots if row not in (TEACHER, ALONE)]
    best = max(students, key=lambda row: shots[row][counts[-1]]["value"])
    said = [f"Popularity alone has {popular:.4f}."]
    for row in (TEACHER, ALONE, best):
        beaten = [c for c in counts if shots[row][c]["value"] > popular]
        when = f"from {beaten[0]} on" if beaten else "at no number of items"
        said.append(f"*{row}* is above it {when}.")
    few, many = counts[1], counts[-1]
    kept = [100 * shots[best][c]["value"] / shots[TEACHER][c]["value"] for c in (few, many)]
    said.append(
        f"Of its teacher's recall, *{best}* keeps {kept[0]:.0f} % at {few} and {kept[1]:.0f} % at "
        f"{many}."
    )
    together = {t: rows for t, rows in found.items() if t.endswith("of a cold item")}
    most = max(row[COLD]["value"] for rows in together.values() for row in rows.values())
    said.append(
        f"Where cold items compete with warm ones, a warm user finds at most {100 * most:.1f} % of "
        "them in a list of 20, whatever the model: they need a list, or places in it, of their own."
        if most < HARDLY
        else f"Of cold items that compete with warm ones, at most {100 * most:.1f} % are found."
    )
    return " ".join([*said, f"{len(found['seeds'])} seeds."])
