"""What the page of results says of studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyg_kd.study.report import Section, study_section, to_markdown
from pyg_kd.study.report.findings import findings
from pyg_kd.study.report.parts import published, world_name
from pyg_kd.study.report.tables import accuracy, differences

INTRODUCTION = (
    "Each is one command, `pyg-kd study CONFIG`, and has a report: intervals and tests over users "
    "and over seeds, the gap closed, settings, costs, figures, and the command of every run. Those "
    "of CiteULike and Gowalla follow the protocol of RCE-KD and the papers beside it: interactions "
    "of every user split 8:1:1 at random, all unseen items ranked, students 20 wide, teacher and "
    "student of one kind."
)


def section(result: dict[str, Any]) -> Section:
    """The report of a study."""
    return study_section(result)


def overview(studies: Mapping[str, dict[str, Any]], titles: Mapping[str, str]) -> list[str]:
    r"""The sections on studies and on further reports.

    Args:
        studies: Stored studies, by name.
        titles: Titles of all reports, by name.
    """
    parts = [Section(f["title"], parts=_worlds(f), text=_link(n)) for n, f in studies.items()]
    others = [f"- [{title}](results/{n}.md)" for n, title in titles.items() if n not in studies]
    found = [to_markdown(Section("Studies", INTRODUCTION, parts=parts), 2)] if parts else []
    return [
        *found,
        *([to_markdown(Section("Further reports", "\n".join(others)), 2)] * bool(others)),
    ]


def _link(name: str) -> str:
    return f"[The whole report](results/{name}.md)."


def _worlds(found: dict[str, Any]) -> list[Section]:
    """What was found, how accurate rows are, and how they differ from the baseline."""
    metric, baseline = found["metrics"][0], found["baseline"]
    sections = []
    for world in found["worlds"]:
        text = "\n".join(f"- {sentence}" for sentence in findings(world, baseline, metric))
        beside = differences(world, metric, baseline, gaps=True)
        tables = [accuracy(world, found["metrics"], published(found, world)), beside]
        shown = [table for table in tables if table is not None]
        sections.append(Section(world_name(found, world), text, shown))
    return sections
