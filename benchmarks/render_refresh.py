"""The page of refresh policies, from ``refresh.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyg_kd.study.refresh import RefreshReport, refresh_section
from pyg_kd.study.report import Section

#: Data sets in the order of the page, and what there is to know of each.
TITLES = {
    "movielens-100k": "MovieLens-100K",
    "stable": "A stream whose tastes stay",
    "drifting": "A stream whose tastes drift",
}

TEXT = """\
When is a student to be refreshed, and how? Half of all interactions, by their times, are the base
block; five blocks of equal size follow, and policies act after each but the last. `never` does
nothing; `fold-in` gives new users, new items and users with new interactions vectors without
training; `fine-tune` goes on training on users of the last block, with the old teacher's lists and
the users' own interactions; `distil again` makes a new student of the old teacher, who is folded in
too; `new teacher` makes both anew. Numbers rerun by `python benchmarks/refresh.py NAME`."""

LIMITS = """\
What MovieLens can't show: {day:.0%} of its users rate within a day and {month:.0%} within 30 days,
of {days:.0f} in all. They come, rate what they remember, and leave. Of the users of a block
{new:.0%} are new and have no history: they get the most popular items. Nobody's taste is seen
changing."""


def section(result: Mapping[str, Any]) -> Section:
    """The page, with a part for every data set that was run."""
    parts = [part(name, result["data"][name]) for name in TITLES if name in result["data"]]
    return Section("When to refresh", TEXT, parts=parts)


def part(name: str, found: Mapping[str, Any]) -> Section:
    """A data set: how it was run, tables and figures."""
    report = RefreshReport.from_dict(found)
    drawn = refresh_section(report, f"refresh {name}")
    text = [drawn.text] if name == next(iter(TITLES)) else []
    if name == "movielens-100k":
        text.append(limits(report, found["spans"]))
    text.append(how(found))
    return replace(drawn, title=TITLES[name], text="\n\n".join(text))


def limits(report: RefreshReport, spans: Mapping[str, float]) -> str:
    """What the data can't show."""
    groups = report.groups(report.policies[0])
    users = {group: groups[f"users {group}"][1] for group in ("from the base", "joined", "new")}
    return LIMITS.format(
        day=spans["a day"],
        month=spans["30 days"],
        days=spans["days of all"],
        new=users["new"] / sum(users.values()),
    )


def how(found: Mapping[str, Any]) -> str:
    """What was chosen, and where it was run."""
    tuning = max(found["choice"]["tuning"], key=found["choice"]["tuning"].get).split(", ")
    weight = max(found["choice"]["own weight"], key=found["choice"]["own weight"].get)
    edges = found["choice"]["at the edge"]
    told = (
        f"Chosen on validation targets: fine-tuning for {tuning[0]} epochs from a learning rate of "
        f"{tuning[1]}, own interactions counting {tuning[2]}, and {weight} for *distil again, own "
        "items*"
    )
    if edges:
        told += f" (at the edge of what was tried: {', '.join(f'`{name}`' for name in edges)})"
    machine, seeds = found["machine"], len(found["seeds"])
    return (
        f"{told}. {seeds} seed{'s' * (seeds > 1)}, {machine['threads']} thread of "
        f"{machine['cpu']}, PyTorch {machine['torch']}."
    )
