"""The page of popularity bias, from ``results/bias.json``."""

from __future__ import annotations

from typing import Any

from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.report.section import Cell

TEACHER, ALONE, POPULAR = "teacher", "student alone", "most popular"
NAMES = {"citeulike": "CiteULike", "movielens-100k": "MovieLens-100K"}

TEXT = """\
Does distillation amplify its teacher's popularity bias? Lists of {k}, every seed with its
own teacher of width 200; students have width 20. *Lift* is by how much listed items are more
popular than the items in the histories of the same users, *over the teacher* the paired difference
with its 95 % interval over users. *Head* and *tail* are the shares of the lists that the most
popular items and the long tail take, which make up a fifth of all interactions each.
*Miscalibration* is the divergence in bits of a list's mix from that of its user. The held-out items
are what the users turned to."""

COLUMNS = {"Lift": "lift", "Head": "head", "Tail": "tail", "Coverage": "coverage", "Gini": "gini",
           "Novelty, bits": "novelty", "Miscalibration": "miscalibration"}  # fmt: skip


def section(result: dict[str, Any]) -> Section:
    """The page."""
    return Section(
        "Popularity bias",
        TEXT.format(k=result["k"]),
        parts=[part(name, of) for name, of in result["data"].items()],
    )


def part(name: str, found: dict[str, Any]) -> Section:
    """One data set: who favours what, who finds what, and what follows."""
    rows = found["rows"]
    trained = [row for row in rows if "recall@20" in rows[row]]
    own = [row for row in trained if " of " not in row]
    tables = [_lists(found, own), _over(rows, own), _targets(rows, own)]
    figures = [_bars(name, rows, own)]
    followers = [row for row in trained if " of " in row]
    if followers:
        tables.append(_followers(rows, followers))
    return Section(NAMES[name], f"{_answer(rows, own)} {_seeds(found, own)}", tables, figures)


def _seeds(found: dict[str, Any], own: list[str]) -> str:
    """What is known of other seeds."""
    if len(found["seeds"]) == 1:
        return "One seed: how far another would differ is not known."
    most = max(found["rows"][row]["lift deviation"] for row in own)
    seeds = len(found["seeds"])
    return f"Means of {seeds} seeds; the standard deviation of a lift is at most {most:.3f}."


def _lists(found: dict[str, Any], own: list[str]) -> Table:
    rows = found["rows"]
    cells: list[list[Cell]] = []
    for row in [*own, POPULAR]:
        cells.append([row, *(rows[row][column] for column in COLUMNS.values())])
    held = found["held-out items"]
    cells.append(["held-out items", *(held[c] for c in COLUMNS.values())])
    # Of targets, not of lists, these two say nothing.
    for place, column in enumerate(COLUMNS, 1):
        if column in ("Coverage", "Gini"):
            cells[-1][place] = None
    return Table(["Lists of", *COLUMNS], cells, "What is listed")


def _over(rows: dict[str, Any], own: list[str]) -> Table:
    cells: list[list[Cell]] = []
    for row in own:
        if row != TEACHER:
            by = rows[row]["popularity of the lists minus that of"]
            lifts = [_paired(by[o]["lift"], by[o]["interval"]) for o in (TEACHER, ALONE)]
            tail = rows[row]["tail's share minus the teacher's"]
            line = [row, lifts[0], "" if row == ALONE else lifts[1]]
            cells.append([*line, _paired(tail["share"], tail["interval"])])
    header = [
        "Lists of",
        "Lift over the teacher",
        "Over the student alone",
        "Tail over the teacher",
    ]
    return Table(header, cells, "Differences with their 95 % intervals over users")


def _targets(rows: dict[str, Any], own: list[str]) -> Table:
    cells: list[list[Cell]] = []
    for row in own:
        slices = rows[row]["slices"]["popularity"]
        line: list[Cell] = [row, rows[row]["recall@20"], rows[row]["ndcg@20"]]
        for group in ("head", "middle", "tail"):
            of = slices[group]
            kept = "" if of["retention"] is None else f" ({100 * of['retention']:.0f} %)"
            line.append(f"{of['value']:.4f}{kept}")
        cells.append(line)
    header = ["Model", "Recall@20", "NDCG@20", "Head", "Middle", "Tail"]
    caption = "Recall@20 by popularity of the target, and what is kept of the teacher's"
    return Table(header, cells, caption)


def _followers(rows: dict[str, Any], followers: list[str]) -> Table:
    cells: list[list[Cell]] = []
    for row in followers:
        method, _, teacher = row.partition(" of ")
        line: list[Cell] = [teacher, method]
        line += [of[column] for column in ("lift", "tail") for of in (rows[teacher], rows[row])]
        cells.append([*line, rows[row]["recall@20"]])
    header = ["Teacher", "Method", "Its lift", "The student's", "Its tail", "The student's",
              "Student's recall@20"]  # fmt: skip
    return Table(header, cells, "Students of more and of less biased teachers")


def _bars(name: str, rows: dict[str, Any], own: list[str]) -> Figure:
    def draw(canvas: Any) -> None:
        axes = canvas.subplots(1, 2, sharey=True)
        place = range(len(own) - 1, -1, -1)
        for ax, column in zip(axes, ("lift", "tail"), strict=True):
            colours = ["C1" if row == TEACHER else "C0" for row in own]
            ax.barh(list(place), [rows[row][column] for row in own], 0.62, color=colours)
            ax.axvline(rows[TEACHER][column], lw=1, ls="--", color="#8c8c8c")
            ax.set_xlabel({"lift": "popularity lift", "tail": "share of the tail"}[column])
        axes[0].set_yticks(list(place), own)

    values = "; ".join(f"{r} {rows[r]['lift']:.2f} and {rows[r]['tail']:.3f}" for r in own)
    return Figure(
        f"bias-{name}",
        draw,
        "Popularity lift of the lists, and the share that the long tail takes; dashed: the "
        "teacher's.",
        f"Bars of the popularity lift and of the tail's share: {values}.",
        size=(7.5, 1.4 + 0.32 * len(own)),
    )


def _answer(rows: dict[str, Any], own: list[str]) -> str:
    """What the numbers say, in sentences that follow from them."""
    taught = [row for row in own if row not in (TEACHER, ALONE)]
    lifts = {r: rows[r]["popularity of the lists minus that of"][TEACHER] for r in taught}
    tails = {r: rows[r]["tail's share minus the teacher's"] for r in taught}
    found = [
        f"Lists are {words} than the teacher's after {', '.join(names)}."
        for side, words in ((1, "more popular"), (-1, "less popular"))
        if (names := _clear(lifts, side, "lift"))
    ]
    found += [
        f"The long tail takes {words} of the lists than of the teacher's after {', '.join(names)}."
        for side, words in ((1, "more"), (-1, "less"))
        if (names := _clear(tails, side, "share"))
    ]
    alone, teacher = rows[ALONE], rows[TEACHER]
    found.append(
        f"The teacher has a lift of {teacher['lift']:+.2f} and gives {100 * teacher['tail']:.1f} % "
        f"to the tail, the student alone {alone['lift']:+.2f} and {100 * alone['tail']:.1f} %."
    )
    return " ".join(found)


def _clear(of: dict[str, Any], side: int, name: str) -> list[str]:
    """The methods whose difference is on one side of zero with its whole interval."""
    return [
        f"{r} ({test[name]:+.3f})"
        for r, test in of.items()
        if min(side * end for end in test["interval"]) > 0
    ]


def _paired(value: float, interval: list[float]) -> str:
    low, high = interval
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
