"""What the sections of the page of results share."""

from __future__ import annotations

from typing import Any

from pyg_kd.study.report import Table
from pyg_kd.study.report.markdown import markdown_table
from pyg_kd.study.report.numbers import mean_deviation

REDRAW = (
    "run before a change in the random draws of the first epoch: a new run draws from the same "
    "distribution, but its numbers differ slightly."
)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return markdown_table(Table(header, rows))


def section(title: str, text: str, header: list[str], rows: list[list[str]]) -> str:
    return "\n".join([f"## {title}\n", f"{text}\n", table(header, rows), ""])


def machine(result: dict[str, Any]) -> str:
    found = result["machine"]
    threads = "thread" if found["threads"] == 1 else "threads"
    return (
        f"{found['cores']} cores of {found['cpu']}, {found['threads']} {threads}, "
        f"PyTorch {found['torch']}"
    )


def with_deviation(row: dict[str, Any], metric: str) -> str:
    """A mean and its deviation over seeds."""
    return mean_deviation(row[metric], row[f"{metric} deviation"])
